"""Samples in Protobuf mean what the same objects mean in JSON, whatever .proto file they were written by."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.registry.small import SmallRegistry, of
from worker.codecs import Codec
from worker.codecs.protobuf import _files, protobuf_transcoder
from worker.codecs.registered import RegisteredCodec
from worker.formats import sample_codec
from worker.registry.client import header
from worker.settings import Settings
from worker.varints import read_zigzag, varint, zigzag

NAMES = ("x", "y")
LAX = settings(max_examples=40, deadline=None)

# One producer after the other: other widths and numbers of fields, more fields, another form; the last in its package.
OTHER = 'syntax = "proto2"; message Other { optional string note = 1; }'

SCHEMAS = [
    'syntax = "proto3"; message Sample { float x = 1; optional float y = 2; }',
    OTHER + "message Sample { required string note = 1; optional double y = 7; optional sint32 x = 2; "
    "optional bool end_of_sequence = 3; }",
    'syntax = "proto3"; package a.b; message Outer { message Sample { repeated double features = 3; '
    "optional int64 timestep = 1; } }",
    'syntax = "proto3"; message Row { repeated float of = 1; } message Sample { repeated Row samples = 2; }',
]
PATHS = [(0,), (1,), (0, 0), (1,)]


@pytest.fixture(scope="module")
def codec(registry: SmallRegistry) -> Iterator[Codec]:
    opened = sample_codec(of(registry, "protobuf"), NAMES)
    assert isinstance(opened, RegisteredCodec)
    yield opened
    opened.objects.registry.close()


@cache
def kind_of(text: str, path: tuple[int, ...]) -> Any:
    files = _files(SimpleNamespace(schema_str=text, references=[]), None)  # type: ignore[arg-type]
    pool = descriptor_pool.DescriptorPool()
    for file in files.values():
        pool.Add(file)
    kind = list(pool.FindFileByName(file.name).message_types_by_name.values())[path[0]]
    for index in path[1:]:
        kind = kind.nested_types[index]
    return message_factory.GetMessageClass(kind)


def message(text: str, path: tuple[int, ...], value: dict[str, Any]) -> bytes:
    """By Google's own JSON mapping."""
    found: bytes = json_format.ParseDict(value, kind_of(text, path)()).SerializeToString()
    return found


def framed(schema_id: int, path: tuple[int, ...], packed: bytes) -> bytes:
    places = zigzag(0) if path == (0,) else b"".join(map(zigzag, (len(path), *path)))
    return header(schema_id) + places + packed


numbers = st.floats(-1e6, 1e6, width=32)
samples = st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9), numbers, st.booleans()), max_size=12)


@given(samples)
@LAX
def test_a_sample_means_the_same_whatever_schema_it_was_written_with(
    registry: SmallRegistry, codec: Codec, found: list[tuple[int, int, float, bool]]
) -> None:
    packed, objects = [], []
    for which, x, y, end in found:
        value: dict[str, Any] = [
            {"x": x, "y": y},
            {"note": "n", "x": x, "y": y, "end_of_sequence": end},
            {"features": [x, y], "timestep": 5 if end else None},
            {"samples": [[x, y], [y, x]]},
        ][which]
        written = {**value, "samples": [{"of": row} for row in value["samples"]]} if which == 3 else value
        schema_id = registry.add(SCHEMAS[which], "PROTOBUF")
        packed.append(framed(schema_id, PATHS[which], message(SCHEMAS[which], PATHS[which], written)))
        objects.append(json.dumps(value).encode())
    one = codec.decode(packed)
    other = sample_codec(Settings(), NAMES).decode(objects)
    np.testing.assert_array_equal(one.inputs, other.inputs)
    assert (one.counts.tolist(), one.ends, one.bad) == (other.counts.tolist(), other.ends, {})


@given(st.binary(max_size=40), st.integers(0, 3))
@LAX
def test_any_bytes_are_a_sample_or_a_bad_record_and_touch_no_other(
    registry: SmallRegistry, codec: Codec, rest: bytes, which: int
) -> None:
    good = framed(registry.add(SCHEMAS[0], "PROTOBUF"), (0,), message(SCHEMAS[0], (0,), {"x": 1, "y": 2}))
    for value in (rest, header(registry.add(SCHEMAS[which], "PROTOBUF")) + rest):
        decoded = codec.decode([good, value, None, good])
        assert decoded.inputs[[0, -1]].tolist() == [[1, 2]] * 2
        assert set(decoded.bad) <= {1}


@pytest.mark.parametrize(
    "place", [zigzag(-1), zigzag(9), zigzag(2**31), zigzag(2**62), b"\xfe" * 9 + b"\x7f", b"\xff" * 9 + b"\x7f"]
)
@pytest.mark.parametrize("before", [(), (0,)])
def test_a_place_where_the_schema_has_no_message_makes_a_bad_record(
    registry: SmallRegistry, codec: Codec, place: bytes, before: tuple[int, ...]
) -> None:
    places = b"".join(map(zigzag, (1 + len(before), *before)))
    (fault,) = codec.decode([header(registry.add(SCHEMAS[0], "PROTOBUF")) + places + place]).bad.values()
    assert fault.reason == "not_protobuf"


def test_a_field_that_can_be_absent_is_and_one_that_cannot_has_its_default(
    registry: SmallRegistry, codec: Codec
) -> None:
    head = header(registry.add(SCHEMAS[0], "PROTOBUF")) + b"\0"
    assert codec.decode([head + message(SCHEMAS[0], (0,), {"y": 2})]).inputs.tolist() == [[0, 2]]
    assert codec.decode([head + message(SCHEMAS[0], (0,), {"x": 2})]).bad[0].reason == "missing_features"


EVENT = """syntax = "proto3"; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
enum Mode { IDLE = 0; BUSY = 1; }
message Device { string id = 1; Mode mode = 2; }
message Event { Device device = 1; google.protobuf.Timestamp at = 2; google.protobuf.FloatValue x = 3;
  map<string, float> others = 4; repeated Device seen = 5; Event inner = 6; }"""


def test_features_stream_id_and_event_time_are_found_by_paths(registry: SmallRegistry) -> None:
    paths = {
        "features_from": ("$.x", '$.others["y"]'),
        "stream_id_from": "field:$.device.id",
        "event_time_from": "$.at",
    }
    value = {"device": {"id": "d", "mode": "BUSY"}, "at": "2026-01-31T12:00:00.5Z", "x": 1.5, "others": {"y": 2}}
    schema_id = registry.add(EVENT, "PROTOBUF")
    decoded = sample_codec(of(registry, "protobuf", **paths), NAMES).decode(
        [framed(schema_id, (1,), message(EVENT, (1,), value))]
    )
    assert decoded.inputs.tolist() == [[1.5, 2]]
    assert (decoded.stream_ids, decoded.times, decoded.bad) == ([b"d"], [1769860800500], {})


def test_the_schemas_of_imports_are_asked_for_and_descriptors_are_taken_too() -> None:
    imported = 'syntax = "proto3"; package p; message Inner { float a = 1; }'
    text = 'syntax = "proto3"; import "p/inner.proto"; message Sample { p.Inner inner = 1; repeated p.Inner all = 2; }'
    reference = SimpleNamespace(name="p/inner.proto", subject="inner", version=1)
    inner = SimpleNamespace(schema_str=imported, references=[])
    registry: Any = SimpleNamespace(version=lambda subject, version: inner)
    whole = SimpleNamespace(schema_str=text, references=[reference])
    descriptor = list(_files(whole, registry).values())[-1].SerializeToString()
    value = header(1) + b"\0" + b"\x0a\x05\x0d\x00\x00\x80\x3f" + b"\x12\x00"
    for schema_str in (text, base64.standard_b64encode(descriptor).decode()):
        schema = SimpleNamespace(schema_str=schema_str, references=[reference])
        found = msgspec.msgpack.decode(protobuf_transcoder(schema, registry)(value))
        assert found == {"inner": {"a": 1.0}, "all": [{"a": 0.0}]}


@pytest.mark.parametrize("text", ["", "nonsense", 'syntax = "proto3"; import "none.proto";', "AAAA", "Zm9v"])
def test_a_schema_that_is_none_makes_bad_records(registry: SmallRegistry, text: str) -> None:
    (fault,) = (
        sample_codec(of(registry, "protobuf"), NAMES)
        .decode([header(registry.add(text, "PROTOBUF")) + b"\0"])
        .bad.values()
    )
    assert fault.reason in ("unknown_schema", "not_protobuf")


def test_a_small_value_cannot_claim_any_number_of_fields_or_any_depth(registry: SmallRegistry, codec: Codec) -> None:
    fields = " ".join(f"float f{i} = {i + 1};" for i in range(1_000))
    wide = f'syntax = "proto3"; message Sample {{ repeated Wide wide = 1; }} message Wide {{ {fields} }}'
    many = framed(registry.add(wide, "PROTOBUF"), (0,), b"\x0a\x00" * 2_000)
    deep = b""
    for _ in range(2_000):
        deep = b"\x32" + varint(len(deep)) + deep
    nested = framed(registry.add(EVENT, "PROTOBUF"), (1,), deep)
    places = header(registry.add(EVENT, "PROTOBUF")) + zigzag(2**40)
    assert [fault.reason for fault in codec.decode([many, nested, places]).bad.values()] == ["not_protobuf"] * 3


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3))
def test_a_number_is_read_as_it_was_written(number: int, rest: bytes) -> None:
    packed = zigzag(number)
    assert read_zigzag(b"xx" + packed + rest, 2) == (number, 2 + len(packed))
    for cut in range(len(packed)):
        with pytest.raises(ValueError, match="cut off"):
            read_zigzag(packed[:cut], 0)
