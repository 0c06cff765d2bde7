"""Checkpoints are written by one background thread; the loop hands over snapshots and never waits.

A failing or slow store delays checkpoints, never records: what fails is reported, the next interval tries
again, and a snapshot that waits while a newer one of its partition comes is replaced by it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from worker.checkpoint.file import AnySnapshot
from worker.checkpoint.store import CheckpointRef, CheckpointStore


@dataclass(frozen=True)
class Written:
    """A checkpoint is durable.

    Attributes:
        seconds: how long writing took.
        created_ms: wall-clock time of the snapshot, milliseconds.
    """

    ref: CheckpointRef
    seconds: float
    created_ms: int


@dataclass(frozen=True)
class WriteFailed:
    """A checkpoint could not be written, or older ones not be removed after it."""

    topic: str
    partition: int
    next_offset: int
    error: Exception


class CheckpointWriter:
    """Writes snapshots in the background and removes the checkpoints they make superfluous.

    Args:
        store: with a layout.
        keep: checkpoints kept for each partition, at least 2.
        timer: monotonic seconds.
    """

    def __init__(self, store: CheckpointStore, keep: int, timer: Callable[[], float] = time.monotonic) -> None:
        assert keep >= 2, "rule 15: at least two valid checkpoints are kept"
        self.store = store
        self.keep = keep
        self.timer = timer
        self._changed = threading.Condition()
        self._pending: dict[tuple[str, int], AnySnapshot] = {}
        self._disowned: set[tuple[str, int]] = set()
        self._results: deque[Written | WriteFailed] = deque()
        self._busy = False
        self._closed = False
        # A daemon: a store that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, snapshot: AnySnapshot) -> None:
        """Queue a snapshot of committed state; its streams are released when it is written or dropped.

        Returns at once.
        """
        with self._changed:
            assert not self._closed, "submit after close"
            key = (snapshot.topic, snapshot.partition)
            self._drop(key)
            self._pending[key] = snapshot
            self._disowned.discard(key)
            self._changed.notify_all()

    def disown(self, topic: str, partition: int, *, discard: bool = False) -> None:
        """Collect nothing more of a partition that another worker owns now (rule 15).

        Args:
            topic: input topic.
            partition: input partition.
            discard: also drop what waits to be written: the partition was lost, not revoked (rule 10).
        """
        with self._changed:
            self._disowned.add((topic, partition))
            if discard:
                self._drop((topic, partition))

    def results(self) -> list[Written | WriteFailed]:
        """What has finished since the last call, oldest first."""
        with self._changed:
            finished = list(self._results)
            self._results.clear()
        return finished

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being written."""
        with self._changed:
            return not self._busy and not self._pending

    def wait(self, deadline_s: float) -> bool:
        """Wait until idle, at most so many seconds. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy and not self._pending, timeout=deadline_s)

    def close(self, deadline_s: float) -> bool:
        """Write what waits, at most until the deadline, and end the thread; what is left is dropped.

        Returns:
            Whether everything was written. If not, the write under way may still finish: a whole file or none.
        """
        done = self.wait(deadline_s)
        with self._changed:
            self._closed = True
            for key in list(self._pending):
                self._drop(key)
            self._changed.notify_all()
        if done:
            self._thread.join(deadline_s)
        return done

    def _drop(self, key: tuple[str, int]) -> None:
        dropped = self._pending.pop(key, None)
        if dropped is not None:
            dropped.streams.release()

    def _run(self) -> None:
        while (snapshot := self._next()) is not None:
            try:
                self._write(snapshot)
            except Exception as fault:  # noqa: BLE001 - the thread must outlive any fault of any store
                failed = WriteFailed(snapshot.topic, snapshot.partition, snapshot.next_offset, fault)
                with self._changed:
                    self._results.append(failed)
            snapshot.streams.release()
            del snapshot  # hundreds of megabytes must not wait here for the next one
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> AnySnapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            if not self._pending:
                return None
            snapshot = self._pending.pop(next(iter(self._pending)))
            self._busy = True
            return snapshot

    def _write(self, snapshot: AnySnapshot) -> None:
        begun = self.timer()
        self.store.prove()  # the store may not have answered when the partition was restored
        ref = self.store.write(snapshot)
        with self._changed:
            self._results.append(Written(ref, self.timer() - begun, snapshot.created_ms))
            disowned = (snapshot.topic, snapshot.partition) in self._disowned
        if not disowned:
            self.store.collect(snapshot.topic, snapshot.partition, committed=snapshot.next_offset, keep=self.keep)
