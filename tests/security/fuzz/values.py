"""What stands in records: each is samples or a dead letter, whatever it is, and its neighbours stay what they are."""

from __future__ import annotations

import json
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import fastavro
import msgspec
import numpy as np
from hypothesis import strategies as st

from tests.security.fuzz import logs
from tests.security.fuzz.making import Inside, Target, damaged, encoded
from tests.security.fuzz.trees import within
from worker.codecs import Codec, Float32Codec, JsonCodec, MsgpackCodec
from worker.codecs.mapped import MappedCodec
from worker.codecs.registered import RegisteredCodec, RegisteredValues
from worker.errors import BadRecord
from worker.field_paths import parse_path
from worker.reading import Reader
from worker.records import END_HEADER, START_HEADER, Headers, RecordBatch
from worker.registry.client import Registry, header
from worker.tracing.context import MAX_STATE_BYTES, TRACEPARENT, TRACESTATE, contexts

FEATURES = ["x", "y", "z"]
BOUNDS = MAX_BYTES, MAX_SAMPLES = 2_000, 20
NAMES = [*FEATURES, "features", "samples", "timestep", "end_of_sequence", "start_of_sequence", "id"]
SAMPLES = ({"features": [1, 2, 3], "timestep": 4}, {"samples": [[1, 2, 3]] * 3, "id": "s"}, {"x": 1, "y": 2, "z": 3.5})
MAPPED = {"payload": {"acc": [1, 2, 3], "n": 4}, "device": {"id": "s"}, "at": "2026-11-22T09:00:00Z"}
MAPPED_NAMES = ["payload", "acc", "n", "device", "id", "at", "end_of_sequence", "start_of_sequence"]
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Sample",
    "fields": [
        {"name": "features", "type": ["null", {"type": "array", "items": "double"}]},
        {"name": "samples", "type": ["null", {"type": "array", "items": {"type": "array", "items": "float"}}]},
        {"name": "timestep", "type": ["null", "long"]},
        {"name": "end_of_sequence", "type": "boolean"},
        {"name": "tags", "type": {"type": "map", "values": ["string", "bytes", "int"]}},
    ],
}
PROTOBUF = """
syntax = "proto3";
message Sample {
  repeated float features = 1;
  repeated Row samples = 2;
  optional int64 timestep = 3;
  bool end_of_sequence = 4;
  map<string, Row> tags = 5;
  optional Sample inner = 6;
}
message Row { repeated float values = 1; }
"""


def targets() -> dict[str, Target]:
    """Every target by its name."""
    vector = np.arange(1, 4, dtype="<f4").tobytes()
    avro = _avro({"features": [1, 2, 3], "samples": None, "timestep": 4, "end_of_sequence": True, "tags": {"a": "b"}})
    avro_rows = _avro({"features": None, "samples": [[1, 2, 3]] * 3, "timestep": None, "tags": {}})
    protobuf = header(1) + b"\0" + b"\x0a\x0c" + vector + b"\x18\x04\x20\x01"
    protobuf_rows = header(1) + b"\2\0" + (b"\x12\x0e\x0a\x0c" + vector) * 3 + b"\x2a\x05\x0a\x01a\x12\0"
    return {
        "json": _codec_target(
            JsonCodec(FEATURES, *BOUNDS, "id"),
            encoded(_json, NAMES, *SAMPLES),
            _json(SAMPLES[0]),
            inside=within(json.loads, _json, NAMES),
        ),
        "msgpack": _codec_target(
            MsgpackCodec(FEATURES, *BOUNDS, "id"),
            encoded(_msgpack, NAMES, *SAMPLES),
            _msgpack(SAMPLES[0]),
            inside=within(msgspec.msgpack.decode, _msgpack, NAMES),
        ),
        "mapped": _codec_target(
            _mapped(),
            encoded(_json, MAPPED_NAMES, MAPPED),
            _json(MAPPED),
            inside=within(json.loads, _json, MAPPED_NAMES),
        ),
        "float32": _codec_target(Float32Codec(3, *BOUNDS), st.binary(max_size=MAX_BYTES + 1), vector, "key"),
        "avro": _codec_target(_registered("AVRO", json.dumps(AVRO)), _behind_an_id(avro, avro_rows), avro, "key"),
        "protobuf": _codec_target(
            _registered("PROTOBUF", PROTOBUF), _behind_an_id(protobuf, protobuf_rows), protobuf, "key"
        ),
        "headers": _headers_target(_json(SAMPLES[2])),
        "log": logs.target(),
    }


def _codec_target(
    codec: Codec,
    inputs: st.SearchStrategy[bytes],
    good: bytes,
    stream_id_from: str = "field:id",
    inside: Inside | None = None,
) -> Target:
    reader = Reader(codec, stream_id_from)
    alone = codec.decode([good]).inputs

    def check(value: bytes) -> None:
        reading = reader.read(RecordBatch(0, [b"k"] * 3, [good, value, good], [0, 1, 2], [5] * 3))
        counts = reading.counts.tolist()
        assert counts[0] == counts[2] == 1
        assert counts[1] <= MAX_SAMPLES
        assert np.isfinite(reading.inputs).all()
        assert reading.inputs.shape == (sum(counts), len(FEATURES))
        assert (reading.inputs[[0, -1]] == alone).all()
        assert (1 in reading.bad) <= (counts[1] == 0)
        assert set(reading.bad) <= {1}
        if 1 in reading.bad:
            assert len(str(reading.bad[1])) < 1_000  # it becomes a header and a line of log

    return Target(inputs, check, inside)


def _headers_target(good: bytes) -> Target:
    """Whatever a header holds, a record is read or refused, and what is carried on is as the standard wants it."""
    reader = Reader(JsonCodec(FEATURES, *BOUNDS), "header:id", "n")
    names = ["id", "n", TRACEPARENT, TRACESTATE, START_HEADER, END_HEADER]

    def check(text: bytes) -> None:
        own: Headers = [(name, text) for name in names]
        vendors: Headers = [(TRACEPARENT, TRACE), (TRACESTATE, text)]
        batch = RecordBatch(0, [b"k"] * 3, [good] * 3, [0, 1, 2], [5] * 3, [None, own, vendors])
        reading = reader.read(batch)
        assert set(reading.bad) <= {1}
        assert reading.stream_ids[1] == text
        for _, context in contexts(batch, 0):
            parent, *state = context.headers()
            assert len(parent[1] or b"") == len(TRACE)
            assert all(len(value or b"") <= MAX_STATE_BYTES for _, value in state)

    numbers = st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number)
    return Target(st.one_of(damaged(TRACE), numbers, st.binary(max_size=2 * MAX_STATE_BYTES)), check)


def _mapped() -> Codec:
    features, stream_id, timestep, time = map(parse_path, ["$.payload.acc", "$.device.id", "$.payload.n", "$.at"])
    return MappedCodec(JsonCodec(FEATURES, *BOUNDS, timesteps=True), [features], stream_id, timestep, time)


def _registered(kind: str, text: str) -> Codec:
    """A codec whose registry has one schema, of ID 1."""

    def schema(schema_id: int, expected: bool = False) -> Any:
        if schema_id != 1:
            raise BadRecord("unknown_schema", f"the schema registry has no schema of ID {schema_id}")
        return SimpleNamespace(schema_type=kind, schema_str=text, references=[])

    registry = cast(Registry, SimpleNamespace(schema=schema))
    return RegisteredCodec(MsgpackCodec(FEATURES, *BOUNDS), RegisteredValues(kind, registry))


def _behind_an_id(*good: bytes) -> st.SearchStrategy[bytes]:
    """Values that name their schema, damaged behind its ID or as a whole."""
    behind = [damaged(value[len(header(1)) :]).map(lambda body: header(1) + body) for value in good]
    return st.one_of(*behind, *map(damaged, good), st.binary(max_size=100))


def _avro(sample: dict[str, Any]) -> bytes:
    stream = BytesIO()
    stream.write(header(1))
    fastavro.schemaless_writer(stream, fastavro.parse_schema(AVRO), {"end_of_sequence": False, **sample})
    return stream.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _msgpack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)
