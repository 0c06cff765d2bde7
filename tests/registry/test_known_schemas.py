"""A replay reads the records that were read the first time, whatever the registry has learnt or lost meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.registry.small import SmallRegistry, just_started, small_registry
from worker.codecs import JsonCodec
from worker.codecs.registered import RegisteredCodec, RegisteredValues
from worker.errors import BadRecord, Refused, StateRefused
from worker.reading import Reader
from worker.records import Position, RecordBatch
from worker.recovery.note import Note
from worker.recovery.start import Log, Policies, Saved, choose_start
from worker.registry import client as registry_module
from worker.registry import known_schemas
from worker.registry.client import Registry, header
from worker.registry.judge import SchemaJudge
from worker.registry.known_schemas import MOST, KnownSchemas

VALUE = b'{"features":[1.0,2.0]}'
DIGEST = "0123456789ab"
LAX = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def server() -> Iterator[SmallRegistry]:
    with small_registry() as running:
        yield running


@cache
def client(url: str) -> Registry:
    return Registry(url)


def reader(server: SmallRegistry, drop_lost: bool = False) -> Reader:
    """Of a worker that has just been started."""
    codec = RegisteredCodec(
        JsonCodec(["x", "y"], 10_000, 100), RegisteredValues("JSON", just_started(client(server.url)))
    )
    return Reader(codec, judge=SchemaJudge(codec.objects, "samples", drop_lost))


def batch(ids: list[int], begin: int, end: int) -> RecordBatch:
    offsets = list(range(begin, end))
    values: list[bytes | None] = [header(ids[offset]) + VALUE for offset in offsets]
    return RecordBatch(0, [b"a"] * len(offsets), values, offsets, [0] * len(offsets))


def learn(server: SmallRegistry, known: int) -> None:
    while len(server.schemas) < known:
        server.add(json.dumps({"title": str(len(server.schemas))}), "JSON")


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.data())
@LAX
def test_a_replay_refuses_what_was_refused_and_reads_what_was_read(
    server: SmallRegistry, ids: list[int], data: st.DataObject
) -> None:
    server.schemas.clear()
    state, live, refused, committed = KnownSchemas(), reader(server), set(), 0
    bounds = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    for bound in [*bounds, len(ids)]:
        learn(server, data.draw(st.integers(0, 6)))
        first, second = committed, data.draw(st.integers(committed, bound))
        if data.draw(st.booleans()):  # a new owner replays, from any checkpoint and in other polls
            begin = data.draw(st.integers(0, committed))
            state, live = KnownSchemas.restored(state.note(committed), begin, committed), reader(server)
            first, second = begin, data.draw(st.integers(begin, bound))
        for low, high in ((first, second), (second, bound)):
            found = live.read(batch(ids, low, high), state).bad if low < high else {}
            again = {low + i for i in found if low + i < committed}
            assert again == {offset for offset in refused if low <= offset < min(high, committed)}
            refused |= {low + i for i in found}
        committed = bound
    assert all(fault.reason == "unknown_schema" for fault in found.values())


spans = st.dictionaries(st.integers(0, 2**32 - 1), st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), max_size=5)


@given(st.integers(0, 2**63), spans)
def test_a_note_is_read_as_it_was_written(floor: int, found: dict[int, tuple[int, int]]) -> None:
    text = ",".join([str(floor), *(f"{i}:{first}-{last}" for i, (first, last) in found.items())])
    note = Note(0, DIGEST, "topic-1", 4, text)
    assert Note.of(Position(0, 1, str(note))) == note
    assert KnownSchemas.restored(text, 0, 9).note(9) == text


def test_the_longest_note_is_one_that_kafka_takes() -> None:
    schemas = KnownSchemas(2**63)
    for schema_id in range(2**32 - MOST, 2**32):
        schemas.begin(schema_id)
        assert schemas.take_up(schema_id, 2**63)
    assert not schemas.take_up(1, 2**63)
    note = Note(2**63, DIGEST, "x" * 22, 10**9, schemas.note(2**63))
    assert len(str(note)) < 4096, "offset.metadata.max.bytes"


def test_schemas_are_forgotten_behind_a_durable_checkpoint_and_no_replay_begins_before_that(
    server: SmallRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(server, 4)
    monkeypatch.setattr(known_schemas, "MOST", 2)
    ids, schemas, live = [1, 2, 3, 2, 3], KnownSchemas(), reader(server)
    assert [fault.reason for fault in live.read(batch(ids, 0, 3), schemas).bad.values()] == ["too_many_schemas"]
    schemas.make_room(1)
    assert schemas.note(3) == "1,2:1-1"
    assert not live.read(batch(ids, 3, 5), schemas).bad
    noted = Position(0, 5, str(Note(0, DIGEST, "", 1, schemas.note(5))))
    log = Log("samples", 0, "", 0, 5, noted, 1, 1)

    def begin(*offsets: int) -> int:
        saved = [*sorted(offsets, reverse=True)]
        return choose_start(log, saved, lambda offset: Saved(offset, "", DIGEST), DIGEST, Policies()).next_offset

    assert begin(0, 1) == 1
    with pytest.raises(StateRefused, match="cannot be rebuilt"):
        begin(0)
    state = KnownSchemas.restored(schemas.note(5), 1, 5)
    assert list(reader(server).read(batch(ids, 1, 5), state).bad) == [1], "offset 2, and not 4"


def test_a_commit_without_a_note_of_schemas_asks_the_registry_and_notes_when_it_knows_all(
    server: SmallRegistry,
) -> None:
    learn(server, 2)
    schemas = KnownSchemas.restored(None, 3, 6)
    live = reader(server)
    assert not live.read(batch([1] * 9, 3, 5), schemas).bad
    assert schemas.note(5) is None
    assert not live.read(batch([1] * 9, 5, 7), schemas).bad
    assert schemas.note(7) == "3,1:3-6"


def test_a_schema_that_is_gone_is_waited_for_and_then_refused_until_the_operator_says_otherwise(
    server: SmallRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(server, 1)
    noted = "0,1:0-5,99:2-4"
    for begin in (3, 7):  # a replay, and a record that was never read
        schemas = KnownSchemas.restored(noted, 0, 6)
        monkeypatch.setattr(registry_module, "WAIT_S", 1.0)
        before = server.asked
        with pytest.raises(Refused, match=r"samples\[0\].*schema 99.*on_lost_state=rebuild"):
            reader(server).read(batch([99] * 10, begin, begin + 1), schemas)
        assert server.asked > before + 1
        bad = reader(server, drop_lost=True).read(batch([99] * 10, begin, begin + 1), schemas).bad
        assert isinstance(bad[0], BadRecord)
