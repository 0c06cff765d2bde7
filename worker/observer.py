"""What the loop tells the outside: metrics and health, so that the loop itself stays about records."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import structlog

from worker.blocks import BlockModel, Flags, Floats, Shape
from worker.checkpoint import WriteFailed, Written
from worker.errors import StoreUnavailable
from worker.metrics import Metrics
from worker.pages.health import Health
from worker.records import Outcome
from worker.recovery.start import Start
from worker.state.partition import PartitionState
from worker.state.split_streams import split_streams
from worker.tracing.context import Tracing

if TYPE_CHECKING:
    from worker.loop import Worker

log = structlog.get_logger(__name__)

GAUGES_EVERY_S = 1.0
WARN_EVERY_S = 60.0


class Observer:
    """Keep metrics and health up to date, and spans.

    Args:
        metrics: of this process.
        health: of this process.
        retention_ms: the input topic's, or None when unknown or unlimited.
        clock: monotonic seconds.
        tracing: is told what became of the work; None traces nothing.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        retention_ms: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
    ) -> None:
        self.metrics = metrics
        self.health = health
        self._retention_ms = retention_ms
        self._clock = clock
        self._tracing = tracing
        self._gauges_at = float("-inf")
        self._warned_at = float("-inf")
        self._checkpointed_ms: dict[int, int] = {}
        self._saved_to: dict[int, int] = {}  # partition -> the offset from which a restore would step

    def turn(self, worker: Worker) -> None:
        """The loop has turned."""
        self.health.beat()
        replaying = [s.partition for s in worker.states.values() if s.next_offset < s.committed]
        self.health.ready = worker.source.joined and not worker.restores.waiting and not replaying
        if not self.health.ready:
            behind = sorted({*worker.restores.waiting, *replaying})
            self.health.waiting_for = f"partitions {behind} to be restored" if behind else "an assignment"
        self.checkpoints(worker.keeper.results())
        if self._clock() - self._gauges_at >= GAUGES_EVERY_S:
            self._gauges_at = self._clock()
            self._set_gauges(worker)

    def committed(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count what has become visible; work that was aborted is never counted."""
        if not outcomes:
            return
        if self._tracing is not None:
            self._tracing.committed(outcomes)
        metrics = self.metrics
        metrics.commit_seconds.observe(seconds)
        for outcome in outcomes:
            metrics.records_total.inc(outcome.records - outcome.replayed)
            metrics.replayed_records_total.inc(outcome.replayed)
            metrics.samples_total.inc(sum(map(len, outcome.sample_times)))
            metrics.probabilities_total.inc(outcome.probabilities)
            metrics.count_resets(outcome.resets)
            metrics.count_disorder(outcome.disorder)
            metrics.count_dead_letters(letter.reason for letter in outcome.dead_letters)
            for timesteps in outcome.decisions:
                metrics.decision_timesteps.observe((timesteps + 1).astype(np.float64))
            if outcome.cells:
                metrics.batch_fill_ratio.observe(outcome.samples / outcome.cells)
        times = [column for outcome in outcomes for column in outcome.sample_times]
        if times:
            metrics.observe_latency(np.concatenate(times))

    def aborted(self) -> None:
        """A transaction was aborted."""
        self.metrics.commit_failures_total.inc()
        self.metrics.transaction_aborts_total.inc()

    def given_up(self, reason: str) -> None:
        """The work since the last commit is void."""
        if self._tracing is not None:
            self._tracing.given_up(reason)

    def assigned(self, partitions: Sequence[int]) -> None:
        """Partitions came."""
        self.metrics.rebalances_total.labels("assign").inc()
        for partition in partitions:
            self.metrics.assign(partition)
            # Until a checkpoint is known, and there may never be one: age and margin count from here.
            self._checkpointed_ms[partition] = round(self.metrics.now() * 1000)

    def released(self, partitions: Sequence[int], lost: bool) -> None:
        """Partitions went."""
        self.metrics.rebalances_total.labels("lost" if lost else "revoke").inc()
        for partition in partitions:
            self.metrics.release(partition)
            self._checkpointed_ms.pop(partition, None)
            self._saved_to.pop(partition, None)

    def restored(self, state: PartitionState, start: Start, seconds: float) -> None:
        """A partition's checkpoint is loaded; what is left is to replay."""
        self.metrics.restore_seconds.observe(seconds)
        self.metrics.checkpoint_store_up.set(1)
        self._saved_to[state.partition] = start.next_offset
        saved = start.saved
        if saved is not None:
            self.metrics.set_checkpoint(state.partition, saved.next_offset, saved.created_ms, saved.size_bytes)
            self._checkpointed_ms[state.partition] = saved.created_ms

    def store_failed(self) -> None:
        """The checkpoint store could not be read or written; the log says why."""
        self.metrics.checkpoint_store_up.set(0)

    def checkpoints(self, results: Sequence[Written | WriteFailed]) -> None:
        """Note finished checkpoints."""
        for result in results:
            if isinstance(result, WriteFailed):
                self.metrics.checkpoint_failures_total.inc()
                if isinstance(result.error, StoreUnavailable):
                    self.store_failed()
                log.error(
                    "checkpoint_failed",
                    topic=result.topic,
                    partition=result.partition,
                    next_offset=result.next_offset,
                    reason=str(result.error),
                )
                continue
            ref = result.ref
            self.metrics.checkpoint_store_up.set(1)
            self.metrics.checkpoint_seconds.observe(result.seconds)
            self.metrics.set_checkpoint(ref.partition, ref.next_offset, result.created_ms, ref.size_bytes)
            self._checkpointed_ms[ref.partition] = result.created_ms
            self._saved_to[ref.partition] = ref.next_offset
            log.info(
                "checkpoint",
                topic=ref.topic,
                partition=ref.partition,
                next_offset=ref.next_offset,
                size_bytes=ref.size_bytes,
                seconds=round(result.seconds, 3),
            )

    def _look_for_split_streams(self, worker: Worker) -> None:
        """Notice an input topic that is not partitioned by stream ID: each partition has a state of its own."""
        found = split_streams({partition: state.index for partition, state in worker.states.items()})
        self.metrics.split_streams.set(len(found))
        if found and self._clock() - self._warned_at >= WARN_EVERY_S:
            self._warned_at = self._clock()
            stream_id, partitions = next(iter(found.items()))
            log.warning(
                "streams_in_several_partitions",
                streams=len(found),
                example=stream_id,
                partitions=partitions,
                what_now="all records of a stream must come in one partition: mend the producers' key or partitioner, "
                "or copy the topic with `cellstream rekey`",
            )

    def _set_gauges(self, worker: Worker) -> None:
        for state in worker.states.values():
            end = worker.source.log_end(state.partition)
            lag = None if end is None else max(0, end - state.next_offset)
            unsaved = max(0, state.next_offset - self._saved_to.get(state.partition, state.next_offset))
            self.metrics.set_partition(
                state.partition, live_streams=len(state), lag_records=lag, unsaved_records=unsaved
            )
            if self._retention_ms is not None:
                age_ms = self.metrics.now() * 1000 - self._checkpointed_ms[state.partition]
                self.metrics.set_partition(state.partition, retention_margin_s=(self._retention_ms - age_ms) / 1000)
        self._look_for_split_streams(worker)
        self.metrics.state_bytes.set(sum(state.size_bytes for state in worker.states.values()))


class TimedModel:
    """A block model whose calls are timed.

    Args:
        model: the real one.
        metrics: where the seconds go.
    """

    def __init__(self, model: BlockModel, metrics: Metrics) -> None:
        self._model = model
        self._metrics = metrics
        self.outputs, self.call_cost = model.outputs, model.call_cost

    @property
    def buckets(self) -> Sequence[Shape]:
        """The model's."""
        return self._model.buckets

    def run_block(self, inputs: Floats, mask: Flags, reset: Flags, states: Floats) -> tuple[Floats, Floats]:
        """The model's, timed."""
        with self._metrics.step_seconds.time():
            return self._model.run_block(inputs, mask, reset, states)
