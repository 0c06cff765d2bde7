"""Codecs take anything: a bad value is a reason with its position, and never touches its neighbours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.codecs import Codec, Float32Codec, JsonCodec

GOOD = b'{"features":[1,2,3]}'
CODECS: list[Codec] = [JsonCodec(["x", "y", "z"], 1000, 5), Float32Codec(3, 1000, 5)]


def reason(value: bytes, codec: Codec | None = None) -> str:
    decoded = (codec or CODECS[0]).decode([GOOD, value, GOOD])
    assert decoded.counts.tolist() == [1, 0, 1], "a bad value changed its neighbours"
    assert decoded.inputs.tolist() == [[1, 2, 3], [1, 2, 3]]
    return decoded.bad[1].reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "not_json"),
        (b"not json", "not_json"),
        (b'{"features":[1,2,NaN]}', "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (GOOD + b" " + GOOD, "not_json"),
        (b"[1,2,3]", "wrong_type"),
        (b'{"features":[1,2,"3"]}', "wrong_type"),
        (b'{"features":[1,2,true]}', "wrong_type"),
        (b'{"features":[1,2,null]}', "wrong_type"),
        (b'{"features":[1,2,3],"timestep":1.5}', "wrong_type"),
        (b'{"features":[1,2]}', "wrong_feature_count"),
        (b'{"features":[1,2,3,4]}', "wrong_feature_count"),
        (b'{"samples":[[1,2,3],[1,2]]}', "wrong_feature_count"),
        (b'{"features":[1,2,1e39]}', "not_finite"),
        (b'{"features":[1,2,1e999]}', "not_finite"),
        (b'{"features":[1,2,' + b"9" * 400 + b"]}", "not_finite"),
        (b"{}", "missing_features"),
        (b'{"x":1,"y":2}', "missing_features"),
        (b'{"samples":[]}', "missing_features"),
        (b'{"features":[1,2,3],"samples":[[1,2,3]]}', "ambiguous"),
        (b'{"samples":[' + b",".join([b"[1,2,3]"] * 6) + b"]}", "oversized_chunk"),
        (GOOD + b" " * 1000, "oversized_value"),
    ],
)
def test_a_bad_json_value_has_a_reason(value: bytes, expected: str) -> None:
    assert reason(value) == expected


def test_json_nested_beyond_measure_is_a_bad_record_and_no_crash() -> None:
    codec = JsonCodec(["x", "y", "z"], 10_000_000, 5)
    assert reason(b'{"other":' + b"[" * 200_000 + b"]" * 200_000 + b',"features":[1,2,3]}', codec) == "too_deep"


@pytest.mark.parametrize("size", [0, 1, 4, 11, 13])
def test_a_float32_value_is_one_vector_or_a_row_of_them(size: int) -> None:
    decoded = CODECS[1].decode([b"\0" * size])
    assert decoded.bad[0].reason == "wrong_size"
    assert CODECS[1].decode([b"\0" * 24]).counts.tolist() == [2]


def test_a_float32_that_is_not_finite_is_refused() -> None:
    value = np.array([1, np.nan, 2], "<f4").tobytes()
    assert CODECS[1].decode([value]).bad[0].reason == "not_finite"


def test_features_may_come_by_name_in_any_order_among_fields_that_nobody_knows() -> None:
    decoded = CODECS[0].decode([b'{"z":3,"other":{"a":[1]},"x":1,"y":2}', b'{"y":5,"x":4,"z":6}'])
    assert decoded.inputs.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("field", [b'"id":"s1"', b'"id":17'])
def test_the_stream_id_may_be_a_field(field: bytes) -> None:
    codec = JsonCodec(["x"], 1000, 5, "id")
    expected = json.loads(b"{" + field + b"}")["id"]
    one = codec.decode([b'{"features":[1],' + field + b"}"])
    assert one.stream_ids == [str(expected).encode()]
    mixed = codec.decode([None, b"bad", b'{"features":[1],' + field + b"}"])
    assert mixed.stream_ids == [None, None, str(expected).encode()]


@given(st.lists(st.one_of(st.none(), st.binary(max_size=60), st.just(GOOD), st.just(GOOD[:-1])), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_sample_a_marker_or_a_dead_letter(values: list[bytes | None]) -> None:
    for codec in CODECS:
        decoded = codec.decode(values)
        assert len(decoded.counts) == len(values)
        assert decoded.counts.sum() == len(decoded.inputs)
        assert np.isfinite(decoded.inputs).all()
        assert all(decoded.counts[i] == 0 and values[i] is not None for i in decoded.bad)
        for i, value in enumerate(values):
            alone = codec.decode([value])
            assert (0 in alone.bad) == (i in decoded.bad), "what stands beside a value decided about it"


members = st.fixed_dictionaries(
    {},
    optional={
        "features": st.sampled_from([None, [1, 2, 3], [1, 2], "x"]),
        "samples": st.sampled_from([None, [[1, 2, 3], [4, 5, 6]], []]),
        "x": st.sampled_from([1, 2.5, None, "text", True, [1]]),
        "y": st.sampled_from([1, None, {}]),
        "z": st.just(3),
        "end_of_sequence": st.sampled_from([True, False, None]),
        "start_of_sequence": st.sampled_from([True, False]),
        "timestep": st.sampled_from([3, None, "3"]),
        "id": st.sampled_from(["a", 7, None, 1.5]),
    },
)


@given(st.lists(members, max_size=8), st.sampled_from([None, "id"]))
@settings(max_examples=300, deadline=None)
def test_what_a_value_means_does_not_depend_on_the_poll_it_comes_in(values: list[object], field: str | None) -> None:
    codec = JsonCodec(["x", "y", "z"], 1000, 5, field)
    encoded = [json.dumps(value).encode() for value in values]
    together = codec.decode(encoded)
    bounds = np.concatenate(([0], np.cumsum(together.counts)))
    for i, value in enumerate(encoded):
        alone = codec.decode([value])
        assert alone.inputs.tolist() == together.inputs[bounds[i] : bounds[i + 1]].tolist()
        assert (alone.starts, alone.ends) == ([0] * (i in together.starts), [0] * (i in together.ends))
        assert [str(fault) for fault in alone.bad.values()] == [str(f) for k, f in together.bad.items() if k == i]
        assert (alone.stream_ids or [None])[0] == (together.stream_ids or [None] * len(values))[i]
