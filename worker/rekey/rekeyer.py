"""The loop of `cellstream rekey`: poll, copy, produce, commit.

Copies, dead letters and offsets are one transaction, and nothing else is remembered. So every fault has one answer:
abort, and go on at the committed offsets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event

import structlog

from worker.dead_letters import BadRecordLimit
from worker.errors import FatalFault, TransientFault
from worker.kafka import CopySink, Source, Survey
from worker.records import Copies, Position
from worker.rekey.copying import Copier
from worker.rekey.places import Places
from worker.rekey.progress import Progress

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.2
OPENING_POLL_S = 0.005
AGAIN_S = 0.5
GIVE_UP_S = 120.0


class Rekeyer:
    """Copy a topic as one member of a consumer group.

    Args:
        source: the topic that is copied.
        sink: the topic of the copies, and the dead letters.
        copier: records to copies.
        places: where each partition begins.
        limit: stops when too many records are bad.
        commit_interval_s: least time between two commits.
        poll_records: most records of a poll.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: Source,
        sink: CopySink,
        copier: Copier,
        places: Places,
        limit: BadRecordLimit,
        commit_interval_s: float,
        poll_records: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.sink = sink
        self.copier = copier
        self.places = places
        self.limit = limit
        self.commit_interval_s = commit_interval_s
        self.poll_records = poll_records
        self.clock = clock
        self.progress = Progress(clock)
        self._note = ""
        self._waiting: set[int] = set()
        self._next: dict[int, int] = {}  # of open partitions, the first offset that was not handled
        self._committed: dict[int, int] = {}
        self._uncommitted: list[Copies] = []
        self._committed_at = float("-inf")
        self._not_before = float("-inf")
        self._failing_since: float | None = None
        self._failed = False

    def startup(self, partitions: int) -> Survey:
        """Settle the last transaction of this member's name, and ask how far the topic's partitions were copied.

        In this order: offsets that an open transaction may still commit are not told.
        """
        self.sink.start()
        return self.source.survey(range(partitions))

    def run(self, stop: Event, ends: dict[int, int] | None = None) -> bool:
        """Join the group and copy until `stop` is set, or until the group has committed every partition up to `ends`.

        Returns:
            Whether it came to those ends.
        """
        self.source.subscribe(self)
        while not stop.is_set():
            self.turn()
            if ends is not None and self._caught_up(ends):
                return True
        return False

    def turn(self) -> None:
        """Copy one poll's records; commit and open what is due."""
        batches = self.source.poll(self.poll_records, self._poll_timeout_s())
        try:
            copies = self.copier.copy(batches)
            self.limit.observe(copies.records, len(copies.dead_letters))
            self.sink.produce(copies)
            for batch in batches:
                self._next[batch.partition] = batch.offsets[-1] + 1
            for partition, end in self.source.ends.items():  # what lies between cannot be read
                self._next[partition] = max(self._next[partition], end)
            if copies.records:
                self._uncommitted.append(copies)
            if self._commit_due():
                self.commit()
        except TransientFault as fault:
            self.recover(fault)
        self._open_waiting()
        self.progress.tell(self.source, self._next)

    def shutdown(self) -> None:
        """Commit what was copied and leave the group."""
        self._commit_or_recover()
        self.source.close()
        self.sink.close()

    def fail(self) -> None:
        """Leave without committing anything."""
        self._failed = True
        self.sink.close()
        self.source.close()

    def commit(self) -> None:
        """Make the copies since the last commit, and how far they reach, durable and visible.

        Raises:
            TransientFault: nothing of it was.
        """
        positions = self._moved()
        if positions or self._uncommitted:
            self.sink.commit(positions, self.source)
        self._committed_at = self.clock()
        self._committed.update((position.partition, position.offset) for position in positions)
        self.progress.committed(self._uncommitted)
        self._uncommitted = []
        self._failing_since = None

    def recover(self, fault: TransientFault) -> None:
        """Give up the copies since the last commit and go on where the broker says that it ended.

        Raises:
            FatalFault: that did not help for two minutes.
        """
        log.warning("aborted", reason=str(fault), partitions=sorted(self._next))
        self.sink.abort()
        self._uncommitted = []
        self._next.clear()
        self._committed.clear()
        self.source.close_partitions()
        self._waiting = set(self.source.assigned)
        if self._failing_since is None:
            self._failing_since = self.clock()
        elif self.clock() - self._failing_since > GIVE_UP_S:
            raise FatalFault(f"nothing could be committed for {GIVE_UP_S:.0f} s: {fault}")

    def on_assign(self, partitions: Sequence[int]) -> None:
        """Partitions are ours; the loop opens them."""
        log.info("assigned", partitions=sorted(partitions))
        self._waiting.update(partitions)
        self._not_before = float("-inf")

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """Commit what was copied of them before they go."""
        log.info("revoked", partitions=sorted(partitions))
        if not self._failed:
            self._commit_or_recover()
        self._release(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Somebody else may copy these already: commit nothing."""
        log.warning("lost", partitions=sorted(partitions))
        if not self._failed:
            self.recover(TransientFault("the group took partitions away without asking"))
        self._release(partitions)

    def _release(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._waiting.discard(partition)
            self._next.pop(partition, None)
            self._committed.pop(partition, None)

    def _commit_or_recover(self) -> None:
        try:
            self.commit()
        except TransientFault as fault:
            self.recover(fault)

    def _moved(self) -> list[Position]:
        return [Position(p, o, self._note) for p, o in self._next.items() if o != self._committed.get(p)]

    def _commit_due(self) -> bool:
        return self.clock() - self._committed_at >= self.commit_interval_s and bool(self._uncommitted or self._moved())

    def _poll_timeout_s(self) -> float:
        if self._waiting:
            return max(OPENING_POLL_S, min(IDLE_POLL_S, self._not_before - self.clock()))
        if self._uncommitted:
            return min(IDLE_POLL_S, max(0.0, self._committed_at + self.commit_interval_s - self.clock()))
        return IDLE_POLL_S

    def _open_waiting(self) -> None:
        """Open what waits at its committed offset; where that is, is asked anew each time.

        Where a new group begins is committed before anything is copied: records without the group's offsets are taken
        for somebody else's.
        """
        if not self._waiting or self.clock() < self._not_before:
            return
        survey = self._survey(sorted(self._waiting))
        if survey is None:
            self._not_before = self.clock() + AGAIN_S
            return
        self._note = self.places.note(survey.partitions)
        for partition in sorted(self._waiting):
            begin = self.places.begin(partition, survey)
            if self.source.open(partition, begin):
                self._waiting.discard(partition)
                self._next[partition] = begin
                if partition in survey.committed:
                    self._committed[partition] = begin
                log.info("opened", partition=partition, offset=begin)
        if self._moved():
            self._commit_or_recover()

    def _survey(self, partitions: Sequence[int]) -> Survey | None:
        try:
            return self.source.survey(partitions)
        except TransientFault as fault:
            log.warning("survey", reason=str(fault))
            return None

    def _caught_up(self, ends: dict[int, int]) -> bool:
        """Whether all of the group's members together have committed every partition up to its end."""
        if not self.source.joined or self._waiting or self._uncommitted or self.clock() < self._not_before:
            return False
        if any(offset < ends.get(partition, 0) for partition, offset in self._next.items()) or self._moved():
            return False
        self._not_before = self.clock() + AGAIN_S
        survey = self._survey(sorted(ends))
        if survey is None:
            return False
        return all(p in survey.committed and survey.committed[p].offset >= end for p, end in ends.items())
