"""The main loop: poll, step, produce, commit, checkpoint.

The worker is the group member's listener too. What it remembers of a partition is dropped whenever it may differ
from what was committed, and rebuilt in one way (`Restores`), whether the partition is new, a transaction was
aborted, or the group took the partition away and gave it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event

import structlog

from worker.dead_letters import BadRecordLimit
from worker.engine import Engine
from worker.errors import CommitPostponed, TransientFault
from worker.kafka import Sink, Source
from worker.observer import Observer
from worker.records import Outcome, Position
from worker.recovery.keeper import StateKeeper
from worker.recovery.restoring import Restores
from worker.state.partition import PartitionState

log = structlog.get_logger(__name__)

IDLE_POLL_S = 0.2
RESTORING_POLL_S = 0.005
# Of the ten seconds that an orchestrator waits after SIGTERM:
SAVE_AHEAD_S = 4.0
SAVED_AT_ONCE_S = 0.1
HAND_OVER_S = 4.0


class Worker:
    """One member of the group.

    Args:
        source: the input topic.
        sink: the output and dead-letter topics.
        engine: turns polls into outcomes.
        keeper: restores and saves partitions.
        observer: metrics and health.
        limit: stops the worker when too many records are bad.
        digest: of the artifact, noted with every commit.
        topic_id: of the input topic; "" when the broker has none.
        commit_interval_s: least time between two commits.
        poll_records: most records of a poll.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        engine: Engine,
        keeper: StateKeeper,
        observer: Observer,
        limit: BadRecordLimit,
        digest: str,
        topic_id: str,
        commit_interval_s: float,
        poll_records: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.sink = sink
        self.engine = engine
        self.keeper = keeper
        self.observer = observer
        self.limit = limit
        self.digest = digest
        self.commit_interval_s = commit_interval_s
        self.poll_records = poll_records
        self.clock = clock
        self.states: dict[int, PartitionState] = {}
        self.restores = Restores(source, keeper, observer, digest, topic_id, clock)
        self._uncommitted: list[Outcome] = []
        self._committed_at = float("-inf")
        self._hand_over_by = float("inf")
        self._failed = False

    def startup(self) -> None:
        """Reach the broker and join the group."""
        self.sink.start()
        self.source.subscribe(self)

    def run(self, stop: Event) -> None:
        """Answer records until `stop` is set."""
        while not stop.is_set():
            self.turn()

    def turn(self) -> None:
        """Answer one poll's records; commit, save and restore what is due."""
        batches = self.source.poll(self.poll_records, self._poll_timeout_s())
        try:
            outcome = self.engine.process([(batch, self.states[batch.partition]) for batch in batches])
            self.limit.observe(outcome.records - outcome.replayed, len(outcome.dead_letters))
            self.sink.produce(outcome)
            self._note(outcome)
            if self._commit_due():
                self.commit()
        except CommitPostponed as fault:
            self._produce_again(fault)
        except TransientFault as fault:
            self.recover(fault)
        self.save_due()
        self.restore_next()
        self.observer.turn(self)

    def shutdown(self) -> None:
        """Hand over.

        1. Save every partition while records are still answered: the streams are not silent meanwhile.
        2. Commit, save once more what is quickly saved, leave the group.
        """
        self._save_ahead()  # 1
        self._hand_over_by = self.clock() + HAND_OVER_S
        self._commit_or_recover()  # 2
        self._save(list(self.states.values()))
        self.source.close()
        self.keeper.close(max(0.1, self._hand_over_by - self.clock()))
        self.observer.checkpoints(self.keeper.results())
        self.sink.close()

    def fail(self) -> None:
        """Leave without committing anything; whatever was not committed is left to the next owner."""
        self._failed = True
        self.observer.given_up("the worker failed")
        self.sink.close()
        self.source.close()
        self.keeper.close(0.0)

    def commit(self) -> None:
        """Make the work since the last commit durable.

        1. Events and offsets, in one transaction or in that order.
        2. Only what is committed is remembered as such, counted, and may be saved.

        Raises:
            TransientFault: nothing of it was committed.
        """
        unpinned = self.restores.unpinned
        moved = [s for s in self.states.values() if s.next_offset > s.committed or s.partition in unpinned]
        # Of a partition that is being replayed only the note can be new; its offset stays where it was.
        positions = [self._position(state) for state in moved]
        begun = self.clock()
        if positions or self._uncommitted:
            self.sink.commit(positions, self.source)  # 1
        ended = self.clock()
        # The interval runs from one beginning to the next, as records wait for the whole of it; but never is more time
        # spent in commits than between them, however slow the brokers.
        self._committed_at = max(begun, ended - self.commit_interval_s / 2)
        for state in moved:  # 2
            state.committed = max(state.next_offset, state.committed)
            unpinned.discard(state.partition)
        self.observer.committed(self._uncommitted, ended - begun)
        self._uncommitted = []

    def save_due(self) -> None:
        """Save a partition that is due; one a turn, and only at a commit boundary.

        A new group commits where it begins before it saves anything: a checkpoint without a committed offset looks as
        if the offsets had been lost, and is refused.
        """
        pinned = (state for state in self.states.values() if state.partition not in self.restores.unpinned)
        due = next((state for state in pinned if self.keeper.is_due(state)), None)
        if due is not None:
            self.keeper.save(self.source.topic, due)

    def recover(self, fault: TransientFault) -> None:
        """Give up the work since the last commit: nothing in memory is trusted, every partition is restored."""
        log.warning("aborted", reason=str(fault), partitions=sorted(self.states))
        self.observer.aborted()
        self.observer.given_up(str(fault))
        self.sink.abort()
        self._uncommitted = []
        self.states.clear()
        self.source.close_partitions()
        self.restores.expect(self.source.assigned)

    def restore_next(self) -> None:
        """Take up one waiting partition; one a turn, so that the others are not kept."""
        state = self.restores.next()
        if state is not None:
            self.states[state.partition] = state

    def on_assign(self, partitions: Sequence[int]) -> None:
        """Partitions are ours; the loop restores them."""
        log.info("assigned", partitions=sorted(partitions))
        self.observer.assigned(partitions)
        self.restores.expect(partitions)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """Commit and save what goes, so that its next owner has nothing to replay."""
        log.info("revoked", partitions=sorted(partitions))
        if not self._failed:
            self._commit_or_recover()
            self._save([self.states[p] for p in partitions if p in self.states])
        self._release(partitions, lost=False)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Somebody else may own these already: commit nothing, save nothing."""
        log.warning("lost", partitions=sorted(partitions))
        if not self._failed and self.states:
            self.recover(TransientFault("the group took partitions away without asking"))
        self._release(partitions, lost=True)

    def _produce_again(self, fault: CommitPostponed) -> None:
        """Offer the same work to the next commit; where the group moved on, the next poll tells the client.

        The rows in memory go with these very events, so nothing has to be replayed. Should partitions be lost
        instead, `on_lost` gives all of it up.
        """
        log.info("commit_postponed", reason=str(fault))
        self.observer.aborted()
        self._committed_at = self.clock()
        try:
            for outcome in self._uncommitted:
                self.sink.produce(outcome)
        except TransientFault as again:
            self.recover(again)

    def _position(self, state: PartitionState) -> Position:
        state.schemas.make_room(self.keeper.durable(state.partition))
        schemas = state.schemas.note(state.next_offset)
        return self.restores.position(state.partition, max(state.next_offset, state.committed), schemas)

    def _commit_or_recover(self) -> None:
        try:
            self.commit()
        except TransientFault as fault:
            self.recover(fault)

    def _save_ahead(self) -> None:
        """Save what is committed, and go on for as long as that takes; what comes meanwhile is quickly replayed."""
        self._commit_or_recover()
        self._submit(list(self.states.values()))
        ahead_by = self.clock() + SAVE_AHEAD_S
        saved = self.keeper.wait(SAVED_AT_ONCE_S)
        while not saved and self.clock() < ahead_by:
            self.turn()
            saved = self.keeper.wait(0.0)

    def _save(self, states: Sequence[PartitionState]) -> None:
        """Save partitions durably before they go, where that takes less time than it spares their next owner."""
        if not self._submit([state for state in states if self.keeper.is_worth_saving(state)]):
            return
        if not self.keeper.wait(max(0.0, min(HAND_OVER_S, self._hand_over_by - self.clock()))):
            log.warning("checkpoints_late", seconds=HAND_OVER_S, partitions=sorted(s.partition for s in states))

    def _submit(self, states: Sequence[PartitionState]) -> bool:
        """Give partitions to the writer; those that are still being replayed have their checkpoint."""
        settled = [state for state in states if state.next_offset == state.committed]
        for state in settled:
            self.keeper.save(self.source.topic, state)
        return bool(settled)

    def _release(self, partitions: Sequence[int], lost: bool) -> None:
        self.observer.released(partitions, lost)
        for partition in partitions:
            self.states.pop(partition, None)
            self.keeper.release(self.source.topic, partition, lost)
        self.restores.release(partitions)

    def _note(self, outcome: Outcome) -> None:
        if outcome.records:
            self._uncommitted.append(outcome)

    def _commit_due(self) -> bool:
        return (bool(self._uncommitted) or bool(self.restores.unpinned)) and (
            self.clock() - self._committed_at >= self.commit_interval_s
        )

    def _poll_timeout_s(self) -> float:
        """Until the next thing is due that is not a record."""
        due = [IDLE_POLL_S]
        if self.restores.waiting:
            due.append(max(RESTORING_POLL_S, self.restores.due_in_s))
        if self._uncommitted or self.restores.unpinned:
            due.append(max(0.0, self._committed_at + self.commit_interval_s - self.clock()))
        return min(due)
