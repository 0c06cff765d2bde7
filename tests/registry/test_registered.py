"""Samples by schemas mean what the same objects mean in JSON, whatever schema they were written with."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.registry.small import SmallRegistry, of
from worker.cli import app
from worker.codecs import MSGPACK, Codec, StreamIdField
from worker.errors import TransientFault, UsageError
from worker.formats import sample_codec
from worker.records import RecordBatch
from worker.registry import client as registry_module
from worker.registry.client import header
from worker.registry.values import registered_values
from worker.rekey import Copier
from worker.settings import Settings

NAMES = ("x", "y")
no_registry: Any = None  # of schemas that refer to no other
LAX = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def codec(registry: SmallRegistry) -> Codec:
    return sample_codec(of(registry, "avro"), NAMES)


def record(*fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Sample", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def array(kind: Any) -> dict[str, Any]:
    return {"type": "array", "items": kind}


# One producer after the other: other widths, another order, more fields, another form.
SCHEMAS = [
    record(("x", "float"), ("y", "float")),
    record(("note", "string"), ("y", "double"), ("x", "int"), ("end_of_sequence", ["null", "boolean"])),
    record(("features", array("double")), ("timestep", ["null", "long"])),
    record(("samples", array(array("float")))),
]


def written(schema: Any, value: Any, schema_id: int) -> bytes:
    stream = BytesIO(header(schema_id))
    stream.seek(0, 2)
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


numbers = st.floats(-1e6, 1e6, width=32)
samples = st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9), numbers, st.booleans()), max_size=12)


@given(samples)
@LAX
def test_a_sample_means_the_same_whatever_schema_it_was_written_with(
    registry: SmallRegistry, codec: Codec, found: list[tuple[int, int, float, bool]]
) -> None:
    ids = [registry.add(schema) for schema in SCHEMAS]
    avro, objects = [], []
    for which, x, y, end in found:
        value: dict[str, Any] = [
            {"x": x, "y": y},
            {"note": "n", "x": x, "y": y, "end_of_sequence": end or None},
            {"features": [x, y], "timestep": 5 if end else None},
            {"samples": [[x, y], [y, x]]},
        ][which]
        avro.append(written(SCHEMAS[which], value, ids[which]))
        objects.append(json.dumps(value).encode())
    one = codec.decode(avro)
    other = sample_codec(Settings(), NAMES).decode(objects)
    np.testing.assert_array_equal(one.inputs, other.inputs)
    assert (one.counts.tolist(), one.ends, one.bad) == (other.counts.tolist(), other.ends, {})


@given(st.binary(max_size=40), st.integers(1, 4))
@LAX
def test_any_bytes_are_a_sample_or_a_bad_record_and_touch_no_other(
    registry: SmallRegistry, codec: Codec, rest: bytes, which: int
) -> None:
    for schema in SCHEMAS:
        registry.add(schema)
    good = written(SCHEMAS[0], {"x": 1.0, "y": 2.0}, registry.add(SCHEMAS[0]))
    for value in (rest, header(which) + rest):
        decoded = codec.decode([good, value, None, good])
        assert decoded.inputs[[0, -1]].tolist() == [[1, 2]] * 2
        assert set(decoded.bad) <= {1}
        assert decoded.counts.sum() == len(decoded.inputs)


def test_an_id_that_nobody_knows_is_a_bad_record_and_is_not_asked_for_with_every_record(
    registry: SmallRegistry,
) -> None:
    codec, unknown = sample_codec(of(registry, "avro"), NAMES), header(99_999) + b"rest"
    reasons = [fault.reason for fault in codec.decode([unknown, b"", b"\0\0\0", b"\1" + unknown[1:]]).bad.values()]
    assert reasons == ["unknown_schema", "no_schema_id", "no_schema_id", "no_schema_id"]
    before = registry.asked
    assert list(codec.decode([unknown] * 50).bad) == list(range(50))
    assert registry.asked == before
    text = registry.add({"type": "object"}, "JSON")
    assert codec.decode([header(text) + b"{}"]).bad[0].reason == "unknown_schema"


def test_a_registry_that_is_away_is_nobodys_bad_record(
    registry: SmallRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = written(SCHEMAS[0], {"x": 1.0, "y": 2.0}, registry.add(SCHEMAS[0]))
    monkeypatch.setattr(registry_module, "WAIT_S", 0.0)
    codec = sample_codec(of(registry, "avro"), NAMES)
    registry.away = True
    try:
        with pytest.raises(TransientFault, match="does not answer"):
            codec.decode([value])
    finally:
        registry.away = False
    assert codec.decode([value]).inputs.tolist() == [[1, 2]]
    registry.away = True
    try:
        assert codec.decode([value]).inputs.tolist() == [[1, 2]], "what is known is not asked for"
    finally:
        registry.away = False
    gone = sample_codec(Settings(schema_registry_url="http://127.0.0.1:9", input_codec="avro"), NAMES)
    with pytest.raises(TransientFault, match="does not answer"):
        gone.decode([value])


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
EMPTY = {"type": "record", "name": "Empty", "fields": [{"name": "nothing", "type": "null"}]}


def doubled(times: int) -> Any:
    """A record of two records of two records ..., which takes no bytes."""
    fields: list[dict[str, Any]] = [{"name": "a", "type": "null"}]
    for level in range(times):
        kind = {"type": "record", "name": f"L{level}", "fields": fields}
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"L{level}"}]
    return {"type": "record", "name": "Top", "fields": fields}


@pytest.mark.parametrize(
    ("schema", "rest"),
    [
        (record(("x", array("null"))), b"\x80\xa8\xd6\xb9\x07\0"),  # 10^9 items in 5 bytes
        (record(("x", {"type": "map", "values": array(EMPTY)})), b"\2\0\x80\xa8\xd6\xb9\x07\0\0"),
        (record(("x", array({"type": "fixed", "name": "F", "size": 0}))), b"\x80\xa8\xd6\xb9\x07\0"),
        (NODE, b"\2" * 200_000 + b"\0"),  # deeper than the stack
        (record(("x", array(NODE))), b"\2" * 200_000 + b"\0"),
        (doubled(60), b""),  # 2^60 values in none
    ],
)
def test_a_schema_that_lets_a_few_bytes_run_away_is_refused_before_a_value_is_read(
    registry: SmallRegistry, schema: Any, rest: bytes
) -> None:
    codec = sample_codec(of(registry, "avro", max_record_bytes=1_000_000), NAMES)
    (fault,) = codec.decode([header(registry.add(schema)) + rest]).bad.values()
    assert fault.reason == "unknown_schema"
    assert "cannot be used" in str(fault)


def test_a_decimal_is_not_converted_and_no_number(registry: SmallRegistry) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 10**6}
    schema = record(("x", "float"), ("y", "float"), ("price", decimal))
    value = header(registry.add(schema)) + b"\0\0\x80\x3f" * 2 + b"\x80\xb5\x18" + b"\x7f" * 200_000
    assert sample_codec(of(registry, "avro", max_record_bytes=1_000_000), NAMES).decode([value]).inputs.tolist() == [
        [1, 1]
    ]


def test_a_topic_is_keyed_anew_by_a_field_of_values_with_schemas(registry: SmallRegistry) -> None:
    device = {"type": "record", "name": "Device", "fields": [{"name": "id", "type": "string"}]}
    schema = record(("x", "float"), ("device", device))
    value = written(schema, {"x": 1.0, "device": {"id": "pump"}}, registry.add(schema))
    objects = registered_values(of(registry, "avro"), "avro")
    copier = Copier("raw", "field:$.device.id", StreamIdField(("device", "id"), MSGPACK), 1_000, objects)
    batch = RecordBatch(0, [b"a"] * 3, [value, header(99_999), None], [0, 1, 2], [0] * 3)
    copies = copier.copy([batch])
    assert list(zip(copies.keys, copies.values, strict=True)) == [(b"pump", value), (b"a", None)]
    assert [letter.reason for letter in copies.dead_letters] == ["unknown_schema"]


def test_publish_says_what_writes_samples_with_a_schema(registry: SmallRegistry) -> None:
    env = {"CELLSTREAM_SCHEMA_REGISTRY_URL": registry.url}
    told = CliRunner().invoke(app, ["publish", "-", "--input-codec", "avro"], env=env)
    assert isinstance(told.exception, UsageError | SystemExit)
    assert "kafka-avro-console-producer" in f"{told.exception} {told.output}"
