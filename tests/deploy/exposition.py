"""What a worker shows, and which of it a PromQL expression asks for."""

from __future__ import annotations

import re

from worker.metrics import Metrics
from worker.state.sequences import REASONS

# What Prometheus, or the client library, has of every target.
EVERYWHERE = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def exercised() -> Metrics:
    """Metrics of which every series is there, with partitions 0 and 1 assigned."""
    metrics = Metrics(reset_reasons=REASONS[1:])
    metrics.set_model("ab" * 32, 6, 4, 112)
    metrics.live_streams_limit.set(1000)
    for partition in (0, 1):
        metrics.assign(partition)
    work(metrics)
    return metrics


def work(metrics: Metrics) -> None:
    """A second of a worker's life, in numbers: every counter and every histogram moves."""
    now_ms = round(metrics.now() * 1000)
    metrics.records_total.inc(100)
    metrics.samples_total.inc(97)
    metrics.probabilities_total.inc(97)
    metrics.replayed_records_total.inc(2)
    metrics.commit_failures_total.inc()
    metrics.transaction_aborts_total.inc()
    metrics.checkpoint_failures_total.inc()
    metrics.count_dead_letters(["not_json", "too_deep", "not_json"])
    metrics.count_resets({"tombstone": 3, "evicted": 1})
    metrics.observe_latency([now_ms - 20, now_ms - 120, now_ms - 2000])
    metrics.state_bytes.set(4480)
    for kind in ("assign", "revoke", "lost"):
        metrics.rebalances_total.labels(kind).inc()
    for histogram in (metrics.step_seconds, metrics.commit_seconds, metrics.checkpoint_seconds):
        histogram.observe(0.01)
    metrics.restore_seconds.observe(0.2)
    metrics.batch_fill_ratio.observe(0.7)
    for partition in (0, 1):
        metrics.set_checkpoint(partition, next_offset=50, created_ms=now_ms - 5000, size_bytes=12345)
        metrics.set_partition(partition, live_streams=7, lag_records=8, unsaved_records=6, retention_margin_s=9.5)


def series_names() -> set[str]:
    """Every name that a scrape of a worker has, and those that Prometheus adds."""
    families = exercised().registry.collect()
    return {sample.name for family in families for sample in family.samples} | EVERYWHERE


def family_names() -> set[str]:
    """Every metric as docs/metrics.md calls it: a histogram has no series of its own name."""
    return {family.name for family in exercised().registry.collect()}


def asked_for(expression: str) -> set[str]:
    """The names of a PromQL expression: our metrics, recorded series, and those of every target."""
    bare = re.sub(r'"[^"]*"', "", expression)
    known = "|".join(sorted(EVERYWHERE))
    return set(re.findall(rf"\b(?:job:\w+(?::\w+)?|cellstream_\w+|{known})\b", bare))
