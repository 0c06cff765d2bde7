"""Samples and events by schemas mean what the same objects mean in JSON, whatever schema they were written with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import fastavro
import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.registry.small import SmallRegistry, small_registry
from tests.registry.test_protobuf import kind_of
from worker import registry as registry_module
from worker.assembly import _codec, _encoder
from worker.avro_encoding import AvroEncoder, avro_schema
from worker.cli import app
from worker.codecs import MSGPACK, Codec, StreamIdField
from worker.codecs.avro import avro_transcoder
from worker.codecs.protobuf import protobuf_transcoder
from worker.commands.event_view import json_of_registered, parse_event
from worker.commands.topics import ensure_schema
from worker.encoding import ProbabilityEncoder
from worker.errors import Refused, TransientFault, UsageError
from worker.protobuf_encoding import ProtobufEncoder, protobuf_schema
from worker.records import RecordBatch
from worker.registered_encoding import RegisteredJsonEncoder
from worker.registered_values import registered_values
from worker.registry import Registry, header
from worker.rekey import Copier
from worker.sequences import REASONS, Closing
from worker.settings import Settings, load_settings

NAMES = ("x", "y")
no_registry: Any = None  # of schemas that refer to no other
LAX = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def registry() -> Iterator[SmallRegistry]:
    with small_registry() as running:
        yield running


@pytest.fixture(scope="module")
def codec(registry: SmallRegistry) -> Codec:
    return _codec(of(registry), NAMES)


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


def of(registry: SmallRegistry, **others: Any) -> Settings:
    return Settings(schema_registry_url=registry.url, input_codec="avro", output_codec="avro", **others)


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
    other = _codec(Settings(), NAMES).decode(objects)
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
    codec, unknown = _codec(of(registry), NAMES), header(99_999) + b"rest"
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
    codec = _codec(of(registry), NAMES)
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
    gone = _codec(Settings(schema_registry_url="http://127.0.0.1:9", input_codec="avro"), NAMES)
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
    codec = _codec(of(registry, max_record_bytes=1_000_000), NAMES)
    (fault,) = codec.decode([header(registry.add(schema)) + rest]).bad.values()
    assert fault.reason == "unknown_schema"
    assert "cannot be used" in str(fault)


def test_a_decimal_is_not_converted_and_no_number(registry: SmallRegistry) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 10**6}
    schema = record(("x", "float"), ("y", "float"), ("price", decimal))
    value = header(registry.add(schema)) + b"\0\0\x80\x3f" * 2 + b"\x80\xb5\x18" + b"\x7f" * 200_000
    assert _codec(of(registry, max_record_bytes=1_000_000), NAMES).decode([value]).inputs.tolist() == [[1, 1]]


def test_a_topic_is_keyed_anew_by_a_field_of_values_with_schemas(registry: SmallRegistry) -> None:
    device = {"type": "record", "name": "Device", "fields": [{"name": "id", "type": "string"}]}
    schema = record(("x", "float"), ("device", device))
    value = written(schema, {"x": 1.0, "device": {"id": "pump"}}, registry.add(schema))
    objects = registered_values(of(registry), "avro")
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


probabilities = st.one_of(st.floats(0, 1, width=32), st.sampled_from([float("nan")]))
events = st.lists(
    st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 2**40), st.integers(0, 2), st.integers(0, 2**62)),
    min_size=1,
    max_size=4,
)


@given(events, st.integers(1, 3), st.booleans(), st.integers(-1, 2**42), st.data())
@LAX
def test_events_with_schemas_say_what_those_in_json_say(
    found: list[tuple[str, int, int, int]], classes: int, per_record: bool, time: int, data: Any
) -> None:
    names = [f"class {i}" for i in range(classes)]
    encoders = [
        ProbabilityEncoder(names, "abc", names),
        RegisteredJsonEncoder(names, "abc", 7, names),
        AvroEncoder(names, "abc", 8, names),
        ProtobufEncoder(names, "abc", 9, names),
    ]
    decided_at = data.draw(st.none() | st.integers(0, 2**40))
    counts = np.array([data.draw(st.integers(1, 70)) for _ in found]) if per_record else None
    size = len(found) if counts is None else int(counts.sum())
    outputs = np.array(data.draw(st.lists(probabilities, min_size=size * classes, max_size=size * classes)), np.float32)
    outputs = outputs.reshape(size, classes)
    told = []
    for encoder in encoders:
        prefixes = [encoder.prefix(name.encode(), 3, start, sample) for name, start, sample, _ in found]
        steps, offsets = np.array([n for *_, n in found]), [start + 1 for _, start, *_ in found]
        values = encoder.encode(3, prefixes, steps, outputs, [time] * len(found), offsets, counts)
        values[0] = encoder.decided(values[0], classes - 1, decided_at)
        for name, start, sample, n in found:
            over = Closing(0, 0, True, name.encode(), start, sample, n % 1000 + 1, 1 + n % (len(REASONS) - 1))
            values.append(encoder.closing(3, over, time, start + 1))
        told.append(values)
    assert [header(7) + value for value in told[0]] == told[1]
    schema = fastavro.parse_schema(json.loads(avro_schema(per_record)))
    for value, packed in zip(told[0], told[2], strict=True):
        stream = BytesIO(packed[5:])
        event = fastavro.schemaless_reader(stream, schema, None)
        assert packed[:5] == header(8)
        assert stream.tell() == len(packed) - 5
        event["source"] = [event.pop("partition"), event.pop("offset")]
        expected = json.loads(value)
        assert in_float32({k: v for k, v in event.items() if v is not None}) == in_float32(
            {k: v for k, v in expected.items() if v is not None}
        )

    for value, packed in zip(told[0], told[3], strict=True):
        event = protobuf_object(protobuf_schema(per_record), packed)
        event["source"] = [event.pop("partition"), event.pop("offset")]
        expected = json.loads(value)
        if per_record and "probabilities" in expected:
            event["probabilities"] = {name: found["values"] for name, found in event["probabilities"].items()}
        assert packed[:6] == header(9) + b"\0"
        assert in_float32(event) == in_float32(with_nan(expected))
    avro = avro_transcoder(SimpleNamespace(schema_str=avro_schema(per_record), references=[]), no_registry)
    protobuf = kind_transcoder(protobuf_schema(per_record))
    for value, *packed_by in zip(told[0], told[2], told[3], strict=True):
        for transcode, packed in zip((avro, protobuf), packed_by, strict=True):
            assert watched(json_of_registered(transcode(packed))) == watched(value)


@cache
def kind_transcoder(schema: str) -> Callable[[bytes], bytes]:
    return protobuf_transcoder(SimpleNamespace(schema_str=schema, references=[]), no_registry)


def watched(event: bytes) -> Any:
    """What `cellstream watch` shows of an event."""
    found = parse_event(event)
    if found is None:
        return None
    return found.stream_id, found.timestep, found.ended, {name: np.float32(p) for name, p in found.values}


def protobuf_object(schema: str, packed: bytes) -> Any:
    """By Google's own reader."""
    kind = kind_of(schema, (0,))
    event = json_format.MessageToDict(
        kind.FromString(packed[6:]), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for name in ("timestep", "length", "timestamp", "offset", "decision_timestep"):  # that mapping writes them as texts
        if name in event:
            event[name] = int(event[name])
    return {name: found for name, found in event.items() if found not in ([], {})}


def with_nan(expected: Any) -> Any:
    """Of an event in JSON, a number that the model did not give as Protobuf writes it."""
    for name in ("probability", "probabilities"):
        if name in expected:
            expected[name] = json.loads(json.dumps(expected[name]).replace("null", "NaN"))
    return expected


def in_float32(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: in_float32(value) for name, value in found.items()}
    if isinstance(found, list):
        return [in_float32(value) for value in found]
    if found == "NaN" or isinstance(found, float):
        return "NaN" if found == "NaN" or np.isnan(found) else float(np.float32(found))
    return found


def test_the_schema_of_the_events_is_registered_by_topics_and_found_by_the_worker(registry: SmallRegistry) -> None:
    kinds = {"avro": AvroEncoder, "protobuf": ProtobufEncoder, "json-schema": RegisteredJsonEncoder}
    for codec, kind in kinds.items():
        chosen = of(registry, output_topic=f"out-{codec}").model_copy(update={"output_codec": codec})
        with pytest.raises(Refused, match=f"out-{codec}-value.*cellstream topics"):
            _encoder(chosen, ("p",), "abc")
        assert ensure_schema(chosen, create=False) == {"subject": f"out-{codec}-value", "id": None}
        made = ensure_schema(chosen, create=True)
        assert made == ensure_schema(chosen, create=True) == ensure_schema(chosen, create=False)
        encoder = _encoder(chosen, ("p",), "abc")
        assert type(encoder) is kind
        assert encoder.prefix(b"a", 0, 1, 0)[:5] == header(made["id"])


@pytest.mark.parametrize(
    ("strategy", "subject"),
    [("topic", "t-value"), ("record", "cellstream.Event"), ("topic_record", "t-cellstream.Event")],
)
def test_a_subject_is_named_as_confluents_serializers_name_it(
    registry: SmallRegistry, strategy: Any, subject: str
) -> None:
    made = ensure_schema(of(registry, output_topic="t", output_subject=strategy), create=True)
    assert made["subject"] == subject


def test_a_codec_with_schemas_needs_a_registry() -> None:
    with pytest.raises(UsageError, match="schema_registry_url"):
        load_settings({"input_codec": "avro"}, {}, None)
    with pytest.raises(UsageError, match="schema_registry_url"):
        Registry("nonsense")
