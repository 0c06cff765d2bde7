"""What `publish` makes of every line and row: a sample, or a bad line that is named."""

from __future__ import annotations

import io
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.commands.sample_sources import (
    BadLine,
    Fields,
    Sample,
    encode_float32,
    encode_json,
    encode_msgpack,
    read_csv,
    read_ndjson,
    read_sequences,
)
from worker.errors import UsageError


def ndjson(text: bytes, **fields: str) -> list[Sample | BadLine]:
    return list(read_ndjson(io.BytesIO(text), Fields(**fields), encode_json))


def table(text: str, encode=encode_json, features=None, **fields: str) -> list[Sample | BadLine]:
    return list(read_csv(io.BytesIO(text.encode()), Fields(**fields), encode, features))


def test_ndjson_fields_go_along_and_the_stream_id_becomes_the_key():
    line = b'{"stream_id": "a", "features": [0.1, 2], "end_of_sequence": true, "timestep": 4}\n'
    (sample,) = ndjson(line)
    assert sample.key == b"a"
    assert json.loads(sample.value) == {"features": [0.1, 2], "end_of_sequence": True, "timestep": 4}
    assert sample.timestamp_ms is None


@pytest.mark.parametrize(
    "line",
    [
        b"nope",
        b"[1]",
        b'{"features": [1]}',
        b'{"stream_id": "", "x": 1}',
        b'{"stream_id": "' + b"a" * 257 + b'", "x": 1}',
        b'{"stream_id": true, "x": 1}',
        b'{"stream_id": null, "x": 1}',
        b'{"stream_id": "a"}',
        b'{"stream_id": "a", "x": NaN}',
        b'{"stream_id": "a", "x": 1',
        b"\xff\xfe",
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(line: bytes):
    good = b'{"stream_id": 7, "x": 1}\n'
    first, bad, last = ndjson(good + b"\n" + line + b"\n" + good)
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert isinstance(first, Sample)
    assert first == last


def test_an_overlong_line_is_one_bad_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.commands.sample_sources.MAX_LINE_BYTES", 64)
    good = b'{"stream_id": 7, "x": 1}\n'
    first, bad, last = ndjson(good + b'{"stream_id": "' + b"a" * 300 + b'"}\n' + good)
    assert isinstance(bad, BadLine)
    assert first == last


def test_csv_features_are_sent_by_name_and_markers_typed():
    text = "x,stream_id,y,end_of_sequence,timestep,at\n1,s,2.5,,0,1700000000000\n3,s,4,true,,1700000000001\n"
    first, last = table(text, timestamp="at")
    assert json.loads(first.value) == {"x": 1.0, "y": 2.5, "timestep": 0}
    assert json.loads(last.value) == {"x": 3.0, "y": 4.0, "end_of_sequence": True}
    assert (first.timestamp_ms, last.timestamp_ms) == (1_700_000_000_000, 1_700_000_000_001)


def test_csv_chosen_columns_leave_the_others_out_and_order_the_raw_vector():
    (sample,) = table("stream_id,label,a,b\ns,walking,1,2\n", encode_float32, ["b", "a"])
    assert np.frombuffer(sample.value, "<f4").tolist() == [2.0, 1.0]


@pytest.mark.parametrize("row", ["s,1", "s,1,2,3", "s,one,2", "s,inf,2", ",1,2"])
def test_csv_bad_rows_are_named_by_line(row: str):
    good, bad = table(f"stream_id,a,b\ns,1,2\n{row}\n")
    assert isinstance(good, Sample)
    assert isinstance(bad, BadLine)
    assert bad.line == 3


@pytest.mark.parametrize("header", ["", "a,b", "stream_id,a,a"])
def test_csv_without_a_usable_header_is_wrong_usage(header: str):
    with pytest.raises(UsageError, match="line 1"):
        table(f"{header}\ns,1,2\n")


def test_msgpack_says_what_json_says():
    line = b'{"stream_id": "a", "features": [0.1, 2], "end_of_sequence": true, "timestep": 4}\n'
    (packed,) = read_ndjson(io.BytesIO(line), Fields(), encode_msgpack)
    (text,) = ndjson(line)
    assert isinstance(packed, Sample)
    assert isinstance(text, Sample)
    assert msgspec.msgpack.decode(packed.value) == json.loads(text.value)
    assert packed.key == text.key
    (row,) = table("x,stream_id\n1,s\n", encode_msgpack)
    assert msgspec.msgpack.decode(row.value) == {"x": 1.0}


def test_float32_markers_become_headers():
    encoded = encode_float32({"samples": [[1, 2], [3, 4]], "end_of_sequence": True, "start_of_sequence": True})
    value, headers = encoded
    assert np.frombuffer(value, "<f4").tolist() == [1, 2, 3, 4]
    assert headers == [("end-of-sequence", b""), ("start-of-sequence", b"")]
    with pytest.raises(ValueError, match="features"):
        encode_float32({"x": 1})


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_set_interleaves_its_streams_and_marks_each_end(lengths: list[int]):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((length, 3)).astype(np.float32) for length in lengths]
    ids = [f"s{i}" for i in range(len(lengths))]
    samples = list(read_sequences(ids, inputs, encode_json))
    assert [sample.key for sample in samples[: len(ids)]] == [stream_id.encode() for stream_id in ids]
    for stream_id, expected in zip(ids, inputs, strict=True):
        values = [json.loads(sample.value) for sample in samples if sample.key == stream_id.encode()]
        np.testing.assert_array_equal(np.array([v["features"] for v in values], np.float32), expected)
        assert [v.get("end_of_sequence", False) for v in values] == [False] * (len(expected) - 1) + [True]
