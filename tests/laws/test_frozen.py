"""What was frozen stays as it was, whatever happens to the partition while it is read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.snapshots import make_layout, make_snapshot
from tests.checkpoints.test_writer import Slow
from tests.laws.reference import LeakySum
from tests.laws.test_engine import Record, batch_of, engine_of, logs, rules, state_of
from worker.checkpoint import CheckpointStore, CheckpointWriter, LiveSnapshot, Snapshot
from worker.checkpoint.file import Header, write_file
from worker.recovery.keeper import StateKeeper
from worker.recovery.start import Policies
from worker.state.frozen import COLUMNS, FrozenState
from worker.state.partition import PartitionState

LAYOUT = make_layout((1,), (1,))


class Interrupted(FrozenState):
    """The loop may turn between a piece's copy and the question which of its rows were put aside meanwhile."""

    interrupt: Callable[[], None]

    def _put_aside(self, rows: Any) -> Any:
        self.interrupt()
        return super()._put_aside(rows)


def whole(state: PartitionState) -> dict[str, Any]:
    """All of a state at once, its streams in the order in which they began."""
    rows = np.fromiter(state.index.values(), np.int64, len(state.index))
    return {"ids": list(state.index), **{name: getattr(state, name)[rows].tobytes() for name in COLUMNS}}


def read(frozen: FrozenState, size: int) -> dict[str, Any]:
    """The same of a frozen one, piece by piece; its rows are looked for at the first."""
    cuts = range(0, len(frozen), size)
    ids = [stream_id for start in cuts for stream_id in frozen.take_ids(start, start + size)]
    columns = {name: b"".join(frozen.take(name, i, i + size).tobytes() for i in cuts) for name in COLUMNS}
    return {"ids": ids, **columns}


def header() -> dict[str, Any]:
    return {name: getattr(make_snapshot(), name) for name in Header.__dataclass_fields__}


def polls_of(log: list[Record], size: int) -> Iterator[list[Record]]:
    return (log[start : start + size] for start in range(0, len(log), size))


@given(
    log=logs(),
    rule=rules,
    poll=st.integers(1, 9),
    moments=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    size=st.integers(1, 4),
    turns=st.lists(st.booleans(), min_size=1),
    dropped=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_frozen_state_is_bit_for_bit_what_it_was_whatever_the_partition_does_meanwhile(
    log: list[Record], rule: Any, poll: int, moments: list[int], size: int, turns: list[bool], dropped: bool
) -> None:
    engine, state = engine_of(rule), state_of(rule)
    expected: list[tuple[FrozenState, dict[str, Any]]] = []
    schedule = itertools.cycle(turns)
    rest: Iterator[list[Record]] = iter(())

    def turn() -> None:
        records = next(rest, None) if next(schedule) else None
        if records:
            engine.process([(batch_of(records), state)])

    def freeze() -> None:
        frozen = Interrupted(state)
        frozen.interrupt = turn
        state._frozen.append(frozen)
        expected.append((frozen, whole(state)))

    polls = list(polls_of(log, poll))
    for number, records in enumerate(polls):  # one snapshot waits or is read while the next is taken
        for _ in range(moments.count(number)):
            freeze()
        engine.process([(batch_of(records), state)])
        if number == max(moments):
            rest = iter(polls[number + 1 :])
            break
    freeze()
    if dropped:
        rest = iter(())
        del state
    for frozen, was in expected:
        assert read(frozen, size) == was
        frozen.release()


@given(logs(), rules)
@settings(max_examples=30, deadline=None)
def test_a_checkpoint_of_a_partition_that_goes_on_has_the_bytes_of_one_that_stands_still(
    log: list[Record], rule: Any
) -> None:
    engine, state = engine_of(rule), state_of(rule)
    half = len(log) // 2
    if half:
        engine.process([(batch_of(log[:half]), state)])
    rows = np.fromiter(state.index.values(), np.int64, len(state.index))
    columns: dict[str, Any] = {name: getattr(state, name)[rows] for name in COLUMNS}
    still = Snapshot(**header(), **columns, stream_ids=list(state.index))
    live = LiveSnapshot(**header(), streams=state.freeze())
    if log[half:]:
        engine.process([(batch_of(log[half:]), state)])
    files = [io.BytesIO(), io.BytesIO()]
    for file, snapshot in zip(files, (still, live), strict=True):
        write_file(file, snapshot, LAYOUT)
    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.parametrize("saves", [1, 3])
def test_the_writers_thread_reads_what_was_saved_while_the_loop_goes_on(tmp_path: Path, saves: int) -> None:
    rule = {"sequence_length": 5, "idle_ms": None, "capacity": 30_000}
    engine, state = engine_of(rule), state_of(rule)
    state.committed = 0
    store = CheckpointStore(str(tmp_path), "group", LAYOUT)
    writer = CheckpointWriter(store, 9)
    keeper = StateKeeper(writer, LeakySum.initial_state, 30_000, "d1" * 32, Policies(), 1e9, None)
    rng = np.random.default_rng(saves)

    def turn(records: int) -> None:
        numbers, begin = rng.integers(0, 40_000, records).tolist(), state.next_offset
        log = [(b"%d" % n, b'{"features":[%d,1]}' % n, begin + i, i, None) for i, n in enumerate(numbers)]
        engine.process([(batch_of(log), state)])
        state.committed = state.next_offset

    turn(60_000)
    expected = {}
    for _ in range(saves):
        keeper.save("samples", state)
        expected[state.next_offset] = whole(state)
        turn(500)
    for _ in range(400):
        if keeper.wait(0.0):
            break
        turn(500)
    assert keeper.wait(60)
    turn(500)
    assert not state._frozen, "nothing is put aside for what is written"
    refs = store.refs("samples", 0)
    assert refs[0].next_offset == max(expected)
    for ref in refs:
        found = store.read(ref)
        columns = {name: getattr(found, name).tobytes() for name in COLUMNS}
        assert {"ids": found.stream_ids, **columns} == expected[ref.next_offset]
    assert keeper.close(30)


def test_a_snapshot_that_is_replaced_or_discarded_is_no_longer_kept(tmp_path: Path) -> None:
    store = Slow(str(tmp_path))
    writer = CheckpointWriter(store, 2)
    writer.submit(make_snapshot(10, partition=1))
    assert store.begun.wait(30)
    state = state_of({"capacity": 3})
    first, second = state.freeze(), state.freeze()
    for frozen in (first, second):
        writer.submit(LiveSnapshot(**header(), streams=frozen))
    assert first.released
    assert not second.released
    writer.disown("samples", 0, discard=True)
    assert second.released
    store.gate.set()
    assert writer.close(30)
