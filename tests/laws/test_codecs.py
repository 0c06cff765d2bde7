"""Codecs take anything: a bad value is a reason with its position, and never touches its neighbours."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.codecs import Codec, Float32Codec, JsonCodec, Missing, MsgpackCodec

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


POLICIES = st.sampled_from(["refuse", "zero", "nan"])
NAMES = ["x", "y", "z"]


@given(st.lists(members, max_size=8), st.sampled_from([None, "id"]), POLICIES, st.sampled_from(["json", "msgpack"]))
@settings(max_examples=300, deadline=None)
def test_what_a_value_means_does_not_depend_on_the_poll_it_comes_in(
    values: list[object], field: str | None, missing: Missing, format: str
) -> None:
    codec: Codec = (JsonCodec if format == "json" else MsgpackCodec)(NAMES, 1000, 5, field, missing)
    encode = msgspec.json.encode if format == "json" else msgspec.msgpack.encode
    encoded = [encode(value) for value in values]
    together = codec.decode(encoded)
    bounds = np.concatenate(([0], np.cumsum(together.counts)))
    for i, value in enumerate(encoded):
        alone = codec.decode([value])
        np.testing.assert_array_equal(alone.inputs, together.inputs[bounds[i] : bounds[i + 1]])  # NaN equals NaN here
        assert (alone.starts, alone.ends) == ([0] * (i in together.starts), [0] * (i in together.ends))
        assert [str(fault) for fault in alone.bad.values()] == [str(f) for k, f in together.bad.items() if k == i]
        assert (alone.stream_ids or [None])[0] == (together.stream_ids or [None] * len(values))[i]


@given(st.lists(members, max_size=6), POLICIES)
@settings(max_examples=200, deadline=None)
def test_msgpack_means_what_json_means(values: list[object], missing: Missing) -> None:
    one = JsonCodec(NAMES, 1000, 5, "id", missing).decode(list(map(msgspec.json.encode, values)))
    other = MsgpackCodec(NAMES, 1000, 5, "id", missing).decode(list(map(msgspec.msgpack.encode, values)))
    np.testing.assert_array_equal(one.inputs, other.inputs)
    assert (one.counts.tolist(), one.starts, one.ends) == (other.counts.tolist(), other.starts, other.ends)
    assert one.stream_ids == other.stream_ids
    reasons = [{i: fault.reason for i, fault in decoded.bad.items()} for decoded in (one, other)]
    assert reasons[0] == reasons[1]


@given(st.binary(max_size=40))
@example(b"\xdd\xff\xff\xff\xff\x01")  # a list that claims four thousand million numbers
@example(b"\x81\xa7samples\xdd\xff\xff\xff\xff\x01")
@example(b"\x81\xa2\xff\xfe\x01")  # a name that is not UTF-8
@example(b"\x81\x81\x01\x02\x03")
@example(b"\xd7\xff" + b"\xff" * 8)
@example(b"\x91" * 100_000)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_sample_or_a_bad_record_in_msgpack(value: bytes) -> None:
    codec = MsgpackCodec(NAMES, 1_000_000, 5)
    good = msgspec.msgpack.encode({"features": [1, 2.5, -3]})
    decoded = codec.decode([good, value, good])
    assert len(decoded.bad) == 1 - decoded.counts[1]
    assert decoded.inputs[[0, -1]].tolist() == [[1, 2.5, -3]] * 2


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (b"1,2,3", [1, 2, 3]),
        (b"1e3,2.5E-1,-3e+2", [1000, 0.25, -300]),
        (b"-0.0,1e-400,12345678901234567890", [0, 0, 12345678901234567890]),
    ],
)
def test_numbers_may_be_whole_or_in_scientific_notation(numbers: bytes, expected: list[float]) -> None:
    assert CODECS[0].decode([b'{"features":[' + numbers + b"]}"]).inputs.tolist() == [
        [float(np.float32(number)) for number in expected]
    ]


ABSENT = float("nan")


@pytest.mark.parametrize("form", [{"features": [1, None, 3]}, {"x": 1, "y": None, "z": 3}, {"samples": [[1, None, 3]]}])
@pytest.mark.parametrize(("missing", "expected"), [("zero", 0.0), ("nan", ABSENT), ("refuse", None)])
def test_a_null_becomes_what_the_policy_says(form: object, missing: Missing, expected: float | None) -> None:
    whole = {"features": [4, 5, 6]}
    for codec, encode in ((JsonCodec, msgspec.json.encode), (MsgpackCodec, msgspec.msgpack.encode)):
        decoded = codec(NAMES, 1000, 5, None, missing).decode([encode(whole), encode(form)])
        rows = [[4, 5, 6]] + ([] if expected is None else [[1, expected, 3]])
        np.testing.assert_array_equal(decoded.inputs, np.array(rows, np.float32))
        assert list(decoded.bad) == ([1] if expected is None else [])


@pytest.mark.parametrize(("missing", "expected"), [("zero", 0.0), ("nan", ABSENT), ("refuse", None)])
def test_a_nan_in_a_raw_vector_is_missing_and_an_infinity_never(missing: Missing, expected: float | None) -> None:
    vectors = [np.array(row, "<f4").tobytes() for row in ([1, ABSENT, 3], [1, np.inf, 3], [4, 5, 6])]
    decoded = Float32Codec(3, 1000, 5, missing).decode(vectors)
    rows = ([] if expected is None else [[1, expected, 3]]) + [[4, 5, 6]]
    np.testing.assert_array_equal(decoded.inputs, np.array(rows, np.float32))
    assert list(decoded.bad) == ([0, 1] if expected is None else [1])


@pytest.mark.parametrize("missing", ["zero", "nan"])
def test_a_feature_that_is_not_there_by_name_is_wrong_whatever_the_policy(missing: Missing) -> None:
    assert reason(b'{"x":1,"z":3}', JsonCodec(NAMES, 1000, 5, None, missing)) == "missing_features"
