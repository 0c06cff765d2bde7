"""What a worker tells Prometheus; `docs/metrics.md` says of each metric what to do when it moves.

Nothing here is called per record: counters take counts, the latency histogram takes arrays, once per poll or
commit. Label values come from fixed sets and partition numbers, never from records (RELIABILITY rule 22).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from worker.array_histogram import ArrayHistogram
from worker.installed import installed_version

REBALANCES = ("assign", "revoke", "lost")
DISORDER = ("duplicate", "late", "gap")
SPANS = ("exported", "dropped")

_STEP_S = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_COMMIT_S = (1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SAVE_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_FILL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SOON_S = (1e-3, 2.5e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75)
_LATENCY_S = (*_SOON_S, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

_TIMESTEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Metrics:
    """The worker's metrics, in a registry of their own.

    Attributes are called as the metrics are, without `cellstream_`, and are prometheus-client objects: use their
    `inc`, `set` and `observe`. What belongs to a partition is set through the methods below, so that nothing is
    shown of a partition that is not ours and `release` can take it away again.

    Args:
        registry: where to register; None makes a new one, with the process's own metrics.
        dead_letter_reasons: every reason there is; each begins at 0, so that the first one is an increase.
        reset_reasons: likewise.
        now: wall-clock seconds.
    """

    def __init__(  # noqa: PLR0915 - a statement for each metric
        self,
        registry: CollectorRegistry | None = None,
        *,
        dead_letter_reasons: Iterable[str] = (),
        reset_reasons: Iterable[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.now = now
        if registry is None:
            registry = CollectorRegistry(auto_describe=True)
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry = registry

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(name, text, labels, namespace="cellstream", registry=registry)

        def gauge(name: str, text: str, labels: Sequence[str] = ("partition",)) -> Gauge:
            return Gauge(name, text, labels, namespace="cellstream", registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, text, namespace="cellstream", registry=registry, buckets=buckets)

        def info(name: str, text: str) -> Info:
            return Info(name, text, namespace="cellstream", registry=registry)

        self.records_total = counter("records", "Input records handled, whatever became of them.")
        self.samples_total = counter("samples", "Samples stepped through the model for the first time.")
        self.probabilities_total = counter("probabilities", "Probability events committed.")
        self.dead_letters_total = counter("dead_letters", "Records refused, by reason.", ["reason"])
        self.resets_total = counter("resets", "Sequences ended, by reason.", ["reason"])
        self.out_of_order_records_total = counter(
            "out_of_order_records", "Records whose timestep was not the expected one, by kind.", ["kind"]
        )
        self.replayed_records_total = counter(
            "replayed_records", "Records stepped again after a restore, not published."
        )
        self.commit_failures_total = counter("commit_failures", "Commits that failed and were given up.")
        self.transaction_aborts_total = counter("transaction_aborts", "Transactions aborted.")
        self.checkpoint_failures_total = counter(
            "checkpoint_failures", "Checkpoints not written, or old ones not removed."
        )
        self.rebalances_total = counter("rebalances", "Rebalance callbacks, by kind.", ["kind"])
        self.spans_total = counter("spans", "Spans of sampled records, by what became of them.", ["result"])

        self.step_seconds = histogram("step_seconds", "One model call over one block.", _STEP_S)
        self.batch_fill_ratio = histogram(
            "batch_fill_ratio", "Share of a poll's block cells that hold a sample.", _FILL
        )
        self.commit_seconds = histogram("commit_seconds", "Flush and commit of one transaction.", _COMMIT_S)
        self.checkpoint_seconds = histogram("checkpoint_seconds", "Building and publishing one checkpoint.", _SAVE_S)
        self.restore_seconds = histogram("restore_seconds", "Loading the checkpoint of one partition.", _SAVE_S)
        self.end_to_end_latency_seconds = ArrayHistogram(
            "cellstream_end_to_end_latency_seconds", "Commit time minus record timestamp, per event.", _LATENCY_S
        )
        registry.register(self.end_to_end_latency_seconds)
        self.decision_timesteps = ArrayHistogram(
            "cellstream_decision_timesteps", "Samples of a sequence up to its decision.", _TIMESTEPS
        )
        registry.register(self.decision_timesteps)

        self.state_bytes = gauge("state_bytes", "Recurrent state of live streams.", ())
        self.split_streams = gauge(
            "split_streams", "Streams that are in several partitions of this worker, of the newest ones.", ()
        )
        self.checkpoint_bytes = gauge("checkpoint_bytes", "Size of the last checkpoint file.")
        self.checkpoint_offset = gauge("checkpoint_offset", "next_offset of the last checkpoint.")
        self.checkpoint_age_seconds = gauge("checkpoint_age_seconds", "Now minus the time of the last checkpoint.")
        self.checkpoint_store_up = gauge(
            "checkpoint_store_up", "1 when the checkpoint store was last read or written, 0 when that failed.", ()
        )
        self.live_streams = gauge("live_streams", "Streams with state in memory.")
        self.live_streams_limit = gauge("live_streams_limit", "Streams that a partition may have.", ())
        self.consumer_lag_records = gauge("consumer_lag_records", "Log end minus the next offset to handle.")
        self.unsaved_records = gauge("unsaved_records", "Offsets since the last checkpoint: what a crash replays.")
        self.input_retention_margin_seconds = gauge(
            "input_retention_margin_seconds", "Retention of the input topic minus the age of what a restore needs."
        )
        self.ready = gauge("ready", "1 when /ready answers 200, else 0.", ())
        self.build_info = info("build", "Versions of cellstream and of what it runs on.")
        self.model_info = info("model", "The artifact in use.")

        self._by_partition = (
            *(self.checkpoint_bytes, self.checkpoint_offset, self.checkpoint_age_seconds),
            *(self.live_streams, self.consumer_lag_records, self.unsaved_records),
            self.input_retention_margin_seconds,
        )
        self._partitions: set[int] = set()
        labels = (
            (self.dead_letters_total, dead_letter_reasons),
            (self.resets_total, reset_reasons),
            (self.out_of_order_records_total, DISORDER),
            (self.rebalances_total, REBALANCES),
            (self.spans_total, SPANS),
        )
        for labelled, values in labels:
            for value in values:
                labelled.labels(value)
        self.checkpoint_store_up.set(1)  # until it is known otherwise
        self.build_info.info(_versions())

    def set_model(self, digest: str, features: int, outputs: int, state_size: int) -> None:
        """Say which artifact runs; `digest` is shown as in the probability events, by its first 12 digits."""
        shown = {"digest": digest[:12], "features": features, "outputs": outputs, "state_size": state_size}
        self.model_info.info({name: str(value) for name, value in shown.items()})

    def count_resets(self, resets: Mapping[str, int]) -> None:
        """Add a poll's ended sequences, by reason."""
        for reason, count in resets.items():
            self.resets_total.labels(reason).inc(count)

    def count_disorder(self, kinds: Mapping[str, int]) -> None:
        """Add a poll's records that were not the expected ones, by kind."""
        for kind, count in kinds.items():
            self.out_of_order_records_total.labels(kind).inc(count)

    def count_dead_letters(self, reasons: Iterable[str]) -> None:
        """Add a poll's dead letters, one reason each."""
        for reason in reasons:
            self.dead_letters_total.labels(reason).inc()

    def observe_latency(self, sample_times_ms: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Add the events of one commit.

        Args:
            sample_times_ms: (events,) record timestamps, ms; negative ones (none known) are left out, and those of
                clocks that run ahead count as 0.
        """
        times = np.asarray(sample_times_ms, np.float64)
        self.end_to_end_latency_seconds.observe(np.maximum(self.now() - times[times >= 0] / 1000, 0.0))

    def assign(self, partition: int) -> None:
        """Begin to show a partition; its checkpoint age counts from now until it is told otherwise."""
        self._partitions.add(partition)
        self.live_streams.labels(partition).set(0)
        self._age_from(partition, self.now())

    def set_checkpoint(self, partition: int, next_offset: int, created_ms: int, size_bytes: int) -> None:
        """Note the newest checkpoint of a partition, written or restored; nothing happens when it is not ours."""
        if partition in self._partitions:
            self.checkpoint_bytes.labels(partition).set(size_bytes)
            self.checkpoint_offset.labels(partition).set(next_offset)
            self._age_from(partition, created_ms / 1000)

    def set_partition(
        self,
        partition: int,
        *,
        live_streams: int | None = None,
        lag_records: int | None = None,
        unsaved_records: int | None = None,
        retention_margin_s: float | None = None,
    ) -> None:
        """Set what is given of a partition; nothing happens when it is not ours."""
        values = (
            (self.live_streams, live_streams),
            (self.consumer_lag_records, lag_records),
            (self.unsaved_records, unsaved_records),
            (self.input_retention_margin_seconds, retention_margin_s),
        )
        for gauge, value in values:
            if value is not None and partition in self._partitions:
                gauge.labels(partition).set(value)

    def release(self, partition: int) -> None:
        """Show a partition no longer: another worker does."""
        self._partitions.discard(partition)
        for gauge in self._by_partition:
            gauge.remove(partition)

    def _age_from(self, partition: int, begin_s: float) -> None:
        """The age goes on growing when the loop hangs: it is computed by the scrape."""
        self.checkpoint_age_seconds.labels(partition).set_function(lambda: max(0.0, self.now() - begin_s))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for label, package in (
        ("version", "cellstream"),
        ("tensorflow", "tensorflow"),
        ("confluent_kafka", "confluent-kafka"),
    ):
        try:
            found[label] = installed_version(package)
        except PackageNotFoundError:
            found[label] = "unknown"
    return found
