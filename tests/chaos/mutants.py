"""The nine seeded bugs that the checker must catch, as small patches of the worker's own classes.

    with seeded("reset-lost"): ...                                in this process
    python -m tests.chaos.mutants reset-lost run --group-id ...   `cellstream run` with that bug

Each is the bug of its name and no more: a worker that has it starts, answers, commits and stops as ever, and asserts
nothing of its own. Only decisions are patched, never the client, so the same bugs live in the simulator's worker.
A bug that happens once happens once for each worker, at the first occasion.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from worker.engine import Engine
from worker.errors import TransientFault
from worker.loop import Worker
from worker.piece import Piece
from worker.records import Outcome, Position, RecordBatch
from worker.recovery.keeper import StateKeeper
from worker.recovery.restoring import Restores
from worker.state.partition import PartitionState


@contextmanager
def seeded(name: str) -> Iterator[None]:
    """Put one bug in for as long as the context lasts."""
    with MUTANTS[name]():
        yield


@contextmanager
def replay_published() -> Iterator[None]:
    """Suppression removed: what is stepped again below the committed offset is published again, too."""

    def finish(engine: Engine, piece: Piece, outcome: Outcome) -> None:
        committed, piece.state.committed = piece.state.committed, -1
        original(engine, piece, outcome)
        piece.state.committed = committed

    with _patched(Engine, "_finish", finish) as original:
        yield


@contextmanager
def commits_position() -> Iterator[None]:
    """A commit of `position()`: what the client has handed out counts as handled before it is."""

    def install(worker: Worker) -> None:
        process, commit, due = worker.engine.process, worker.sink.commit, worker._commit_due
        polled: dict[int, int] = {}

        def commit_ahead(positions: Sequence[Position], source: Any) -> None:
            commit(
                [Position(p.partition, max(p.offset, polled.get(p.partition, 0)), p.note) for p in positions], source
            )

        def process_late(work: Sequence[tuple[RecordBatch, PartitionState]]) -> Outcome:
            work = list(work)
            polled.update((batch.partition, batch.offsets[-1] + 1) for batch, _ in work)
            try:
                if due():
                    worker.commit()
            finally:
                polled.clear()
            return process(work)

        worker.engine.process, worker.sink.commit = process_late, commit_ahead  # type: ignore[method-assign, assignment]
        worker._commit_due = lambda: False  # type: ignore[method-assign]

    with _installed(install):
        yield


@contextmanager
def memory_kept_after_abort() -> Iterator[None]:
    """The work is given up, its transaction aborted, but states and positions go on as if it had been committed."""

    def recover(worker: Worker, fault: TransientFault) -> None:
        worker.observer.aborted()
        worker.sink.abort()
        worker._uncommitted = []

    with _patched(Worker, "recover", recover):
        yield


@contextmanager
def checkpoint_before_commit() -> Iterator[None]:
    """A checkpoint is taken wherever the state stands, committed or not."""

    def is_due(keeper: StateKeeper, state: PartitionState) -> bool:
        with _as_if_committed(state):
            return bool(due(keeper, state))

    def save(keeper: StateKeeper, topic: str, state: PartitionState) -> None:
        with _as_if_committed(state):
            saved(keeper, topic, state)

    with _patched(StateKeeper, "is_due", is_due) as due, _patched(StateKeeper, "save", save) as saved:
        yield


@contextmanager
def offsets_outside_transaction() -> Iterator[None]:
    """The consumer commits the offsets; the transaction that follows holds the events alone."""

    def install(worker: Worker) -> None:
        commit = worker.sink.commit

        def commit_apart(positions: Sequence[Position], source: Any) -> None:
            if positions:
                source.commit(positions)
            commit([], source)

        worker.sink.commit = commit_apart  # type: ignore[method-assign]

    with _installed(install):
        yield


@contextmanager
def state_kept_on_revoke() -> Iterator[None]:
    """A partition that comes back finds the state that it had when it went."""

    def release(worker: Worker, partitions: Sequence[int], lost: bool) -> None:
        if not lost:
            worker.restores.__dict__.setdefault("kept", {}).update(
                (partition, worker.states[partition]) for partition in partitions if partition in worker.states
            )
        released(worker, partitions, lost)

    def restore(restores: Restores, partition: int) -> PartitionState:
        kept: PartitionState | None = restores.__dict__.get("kept", {}).pop(partition, None)
        return restored(restores, partition) if kept is None else kept

    with _patched(Worker, "_release", release) as released, _patched(Restores, "_restore", restore) as restored:
        yield


@contextmanager
def reset_lost() -> Iterator[None]:
    """One end of a sequence is not obeyed: the stream's next sample goes on in its old state."""

    def finish(engine: Engine, piece: Piece, outcome: Outcome) -> None:
        placement = piece.placement
        if placement is not None and len(placement.finished) and _first_time(engine):
            placement.finished = placement.finished[1:]
        original(engine, piece, outcome)

    with _patched(Engine, "_finish", finish) as original:
        yield


@contextmanager
def states_swapped() -> Iterator[None]:
    """Two streams of one partition get each other's recurrent state, once."""

    def finish(engine: Engine, piece: Piece, outcome: Outcome) -> None:
        original(engine, piece, outcome)
        rows = piece.state.rows()
        if len(rows) > 1 and _first_time(engine):
            piece.state.states[rows[:2]] = piece.state.states[rows[1::-1]]

    with _patched(Engine, "_finish", finish) as original:
        yield


@contextmanager
def wrong_row_freed() -> Iterator[None]:
    """When a stream is over, the row behind its own is freed, once: another stream is forgotten, and it lives on."""

    def free(state: PartitionState, row: int) -> None:
        if not state.stream_ids[row]:
            return  # freed by mistake before
        behind = next((other for other in state.rows().tolist() if other > row), None)
        if behind is not None and _first_time(state):
            row = behind
            state.before_change(np.array([row]))  # as any change that is meant
        original(state, row)

    with _patched(PartitionState, "free", free) as original:
        yield


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "replay-published": replay_published,
    "commits-position": commits_position,
    "memory-kept-after-abort": memory_kept_after_abort,
    "checkpoint-before-commit": checkpoint_before_commit,
    "offsets-outside-transaction": offsets_outside_transaction,
    "state-kept-on-revoke": state_kept_on_revoke,
    "reset-lost": reset_lost,
    "states-swapped": states_swapped,
    "wrong-row-freed": wrong_row_freed,
}


@contextmanager
def _patched(owner: type, name: str, replacement: Callable[..., Any]) -> Iterator[Any]:
    """Replace a method and give the original; undone at the end."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield original
    finally:
        setattr(owner, name, original)


@contextmanager
def _installed(install: Callable[[Worker], None]) -> Iterator[None]:
    """Change every worker that is made meanwhile, whatever its source and sink are."""

    def made(worker: Worker, *parts: Any, **named: Any) -> None:
        original(worker, *parts, **named)
        install(worker)

    with _patched(Worker, "__init__", made) as original:
        yield


@contextmanager
def _as_if_committed(state: PartitionState) -> Iterator[None]:
    committed, state.committed = state.committed, max(state.committed, state.next_offset)
    try:
        yield
    finally:
        state.committed = committed


def _first_time(owner: object) -> bool:
    """True once for each engine or state."""
    first = "mutated" not in owner.__dict__
    owner.__dict__["mutated"] = True
    return first


def main() -> None:
    """Run the command line with the bug that its first argument names."""
    from worker.cli import main as cellstream

    with seeded(sys.argv.pop(1)):
        cellstream()


if __name__ == "__main__":
    main()
