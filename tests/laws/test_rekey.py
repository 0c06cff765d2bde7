"""What becomes of a record in `rekey`, and where a partition begins: laws that need no broker."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.codecs import JSON, JsonCodec, StreamIdField
from worker.errors import StateRefused
from worker.kafka import Survey
from worker.reading import Reader
from worker.records import Position, RecordBatch
from worker.rekey import Copier, Places
from worker.state.streams import unusable

IDS = ("key", "header:device", "field:device")
ids = st.sampled_from([b"a", b"", "ü".encode(), b"\xff", b"x" * 257, None])
in_values = st.sampled_from(["a", "", 7, None, "x" * 257, 1.5, ["a"]])
headers = st.one_of(st.none(), st.lists(st.tuples(st.sampled_from(["device", "end-of-sequence"]), ids), max_size=3))
values = st.one_of(
    st.none(),
    st.sampled_from([b"", b"not json", b"[]", b"{}"]),
    in_values.map(lambda stream_id: json.dumps({"device": stream_id, "features": [1]}).encode()),
)
records = st.lists(st.tuples(ids, values, headers), max_size=8)


def batch(rows: list) -> RecordBatch:
    return RecordBatch(
        2, [row[0] for row in rows], [row[1] for row in rows], list(range(5, 5 + len(rows))),
        list(range(100, 100 + len(rows))), [row[2] for row in rows],
    )  # fmt: skip


def copier(stream_id_from: str, max_bytes: int = 10_000) -> Copier:
    return (
        Copier("raw", stream_id_from, StreamIdField(("device",), JSON), max_bytes)
        if "field" in stream_id_from
        else Copier("raw", stream_id_from, None, max_bytes)
    )


@given(records, st.sampled_from(IDS))
def test_every_record_is_copied_as_it_is_or_is_a_dead_letter_with_its_coordinates(rows: list, where: str) -> None:
    copies = copier(where).copy([batch(rows)])
    refused = {letter.offset - 5 for letter in copies.dead_letters}
    copied = [row for i, row in enumerate(rows) if i not in refused]
    assert copies.records == len(rows) == len(copies.keys) + len(refused)
    assert copies.values == [row[1] for row in copied]
    assert copies.headers == [row[2] for row in copied]
    assert copies.times == [100 + i for i in range(len(rows)) if i not in refused]
    assert all(unusable(key) is None for key in copies.keys)
    for letter in copies.dead_letters:
        told = dict(letter.headers)
        assert (told["__streams.errors.topic"], told["__streams.errors.partition"]) == (b"raw", b"2")
        assert told["__streams.errors.offset"] == str(letter.offset).encode()


@given(records, st.sampled_from(IDS))
def test_a_copy_is_keyed_as_the_worker_would_have_called_its_stream(rows: list, where: str) -> None:
    field = "device" if where.startswith("field") else None
    reading = Reader(JsonCodec(["x"], 10_000, 5, field), where).read(batch(rows))
    copies = copier(where).copy([batch(rows)])
    refused = {letter.offset - 5: letter.reason for letter in copies.dead_letters}
    said = [stream_id for i, stream_id in enumerate(reading.stream_ids) if i not in refused]
    assert said == copies.keys
    for i, reason in refused.items():
        if i not in reading.bad:
            fault = unusable(reading.stream_ids[i])
            assert fault is not None
            assert fault.reason == reason


def test_a_record_that_is_too_large_with_its_headers_is_a_dead_letter() -> None:
    rows = [(b"a", b"x" * 60, [("device", b"y" * 40)]), (b"a", b"x" * 54, [("device", b"y" * 40)])]
    copies = copier("key", 100).copy([batch(rows)])
    assert [letter.reason for letter in copies.dead_letters] == ["oversized_value"]
    assert copies.keys == [b"a"]


def survey(low: int, high: int, **committed: Position) -> Survey:
    return Survey(3, {position.partition: position for position in committed.values()}, {1: (low, high)})


EARLIEST = Places("raw", "id-1", "group", "earliest")
LATEST = Places("raw", "id-1", "group", "latest")


def test_a_partition_goes_on_at_its_committed_offset_and_a_new_group_where_it_was_told() -> None:
    assert EARLIEST.begin(1, survey(3, 9, at=Position(1, 7, EARLIEST.note(3)))) == 7
    assert EARLIEST.begin(1, survey(3, 9)) == 3
    assert LATEST.begin(1, survey(3, 9)) == 9


def test_a_partition_that_was_added_is_copied_from_its_first_record_on() -> None:
    assert LATEST.begin(1, survey(0, 9, other=Position(0, 7, LATEST.note(1)))) == 0
    assert LATEST.begin(1, survey(0, 9, other=Position(0, 7, LATEST.note(2)))) == 9


@pytest.mark.parametrize(
    ("low", "high", "note"),
    [(8, 9, ""), (0, 6, ""), (3, 9, "cellstream rekey topic=id-2 partitions=3")],
    ids=["records are gone", "the log is shorter", "another topic"],
)
def test_a_log_that_does_not_fit_the_committed_offset_is_refused(low: int, high: int, note: str) -> None:
    with pytest.raises(StateRefused):
        EARLIEST.begin(1, survey(low, high, at=Position(1, 7, note)))
