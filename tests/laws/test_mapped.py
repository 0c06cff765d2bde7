"""Parts of a sample that paths lead to: they mean what the same parts mean where the plain codec expects them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.codecs import Codec, JsonCodec, MappedCodec, MsgpackCodec
from worker.errors import UsageError
from worker.field_paths import follow, parse_path
from worker.reading import Reader
from worker.records import RecordBatch
from worker.settings.sources import load_settings

NAMES = ("x", "y")
FORMATS = {"json": (JsonCodec, msgspec.json.encode), "msgpack": (MsgpackCodec, msgspec.msgpack.encode)}
ONE_EACH = [parse_path("$.payload.acc[1]"), parse_path('$["odd name."][0].y')]
A_LIST = [parse_path("$.payload.acc")]
numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(-1e38, 1e38), st.sampled_from([None, "1", True, [1], 1e39])
)


def mapped(format: str, missing: Any = "refuse", **paths: Any) -> MappedCodec:
    return MappedCodec(FORMATS[format][0](NAMES, 1000, 5, None, missing), **paths)


@given(
    st.lists(st.tuples(numbers, numbers, st.sampled_from([None, True, False])), max_size=5),
    st.sampled_from(["refuse", "zero", "nan"]),
    st.sampled_from(sorted(FORMATS)),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_features_at_paths_mean_what_they_mean_in_their_own_place(
    rows: list[tuple[Any, Any, bool | None]], missing: Any, format: str, listed: bool
) -> None:
    kind, encode = FORMATS[format]
    plain: Codec = kind(NAMES, 1000, 5, None, missing)
    codec = mapped(format, missing, features=A_LIST if listed else ONE_EACH)
    ends = [{"end_of_sequence": end} for *_, end in rows]
    known = [
        encode({**({"features": [x, y]} if listed else {"x": x, "y": y}), **end})
        for (x, y, _), end in zip(rows, ends, strict=True)
    ]
    nested = [
        encode({"payload": {"acc": [x, y] if listed else [None, x]}, "odd name.": [{"y": y}], **end})
        for (x, y, _), end in zip(rows, ends, strict=True)
    ]
    one, other = plain.decode(known), codec.decode(nested)
    assert set(one.bad) == set(other.bad)
    np.testing.assert_array_equal(one.inputs, other.inputs)
    assert (one.counts.tolist(), one.ends) == (other.counts.tolist(), other.ends)


def sample(**others: Any) -> dict[str, Any]:
    return {"payload": {"acc": [1, 2]}, **others}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (sample(), None),
        (sample(seq=5), None),
        ({"end_of_sequence": True}, None),
        ({"payload": {}}, "missing_features"),
        ({"payload": {"acc": {"0": 1}}}, "wrong_type"),
        ({"payload": {"acc": [1, 2, 3]}}, "wrong_feature_count"),
        ({"payload": {"acc": [1, "2"]}}, "wrong_type"),
        (sample(seq="5"), "wrong_type"),
        (sample(at="yesterday"), "wrong_type"),
        (sample(at="2026-01-31T12:00:00"), "wrong_type"),
        (sample(at=-1), "wrong_type"),
        (sample(at=1.5), "wrong_type"),
        (sample(device={"id": [1]}), "wrong_type"),
        (sample(start_of_sequence="yes"), "wrong_type"),
        ([sample()], "wrong_type"),
    ],
)
def test_what_stands_at_a_path_and_is_something_else_is_a_reason(value: Any, expected: str | None) -> None:
    paths = {"features": A_LIST, "stream_id": parse_path("$.device.id"), "timestep": ("seq",), "time": ("at",)}
    for format, (_, encode) in FORMATS.items():
        decoded = mapped(format, **paths).decode([encode(sample()), encode(value), encode(sample())])
        assert [fault.reason for fault in decoded.bad.values()] == ([] if expected is None else [expected])
        assert decoded.inputs[[0, -1]].tolist() == [[1, 2], [1, 2]]


def test_stream_id_and_event_time_come_with_features_where_they_always_are() -> None:
    codec = mapped("json", stream_id=parse_path("$.device.id"), time=parse_path("$.at"))
    rows = [
        {"features": [1, 2], "device": {"id": "a"}, "at": 1_700_000_000_123},
        {"samples": [[1, 2], [3, 4]], "device": {"id": 7}, "at": "2023-11-14T23:13:20.123+01:00"},
        {"x": 1, "y": 2},
    ]
    values: list[bytes | None] = [*map(msgspec.json.encode, rows), None]
    batch = RecordBatch(0, [b"k"] * 4, values, [0, 1, 2, 3], [5, 6, 7, 8])
    reading = Reader(codec, "field:$.device.id").read(batch)
    assert reading.bad == {}
    assert reading.counts.tolist() == [1, 2, 1, 0]
    assert list(reading.stream_ids) == [b"a", b"7", None, b"k"]
    assert reading.batch.times == [1_700_000_000_123, 1_700_000_000_123, 7, 8]
    moment = datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)  # a type of MessagePack's own
    packed = mapped("msgpack", time=("at",)).decode([msgspec.msgpack.encode({"features": [1, 2], "at": moment})])
    assert packed.times == [1_700_000_000_123]


@pytest.mark.parametrize(
    ("text", "path"),
    [("$.a", ("a",)), ("$.a[0][12].b-c", ("a", 0, 12, "b-c")), ('$["a.b"].c', ("a.b", "c")), ("$[3]", (3,))],
)
def test_a_path_has_steps(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", "$", "a.b", "$.", "$a", "$.a[", "$.a[x]", "$.a..b", "$.a b", "$" + ".a" * 33])
def test_what_is_no_path_is_refused_with_the_settings(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        parse_path(text)
    with pytest.raises(UsageError, match="timestep-from"):
        load_settings({"timestep_from": text}, {}, None)


def test_a_path_leads_nowhere_rather_than_somewhere_else() -> None:
    for value in ("text", [1], {"a": "b"}, {"a": ["b"]}, {"a": {"0": 1}}, None, 5):
        assert follow(("a", 0, "c"), value) is None
        assert follow(("a", 5), value) is None


def test_feature_paths_are_a_list_or_a_text_with_commas() -> None:
    text = load_settings({"features_from": '$.a[0], $["x, y"].b,$.c'}, {}, None).features_from
    assert text == ("$.a[0]", '$["x, y"].b', "$.c")
    assert load_settings({"features_from": ["$.a", "$.b"]}, {}, None).features_from == ("$.a", "$.b")
    for wrong in ({"features_from": "$.a"}, {"event_time_from": "$.a"}, {"stream_id_from": "field:$.a.b"}):
        with pytest.raises(UsageError, match="float32"):
            load_settings({"input_codec": "float32", **wrong}, {}, None)
