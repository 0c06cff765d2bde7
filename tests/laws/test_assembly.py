"""What a worker finds before it starts."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from worker import assembly
from worker.errors import Refused, UsageError
from worker.metrics import Metrics
from worker.settings import Settings

NAMES = ("samples", "probabilities", "samples.dlq")


class Cluster:
    """Brokers that hear of a new topic one after the other: each answer knows one more."""

    def __init__(self, known: int) -> None:
        self.known = known

    def topics(self, names: tuple[str, ...], with_settings: bool) -> dict[str, Any]:
        self.known += 1
        return {name: SimpleNamespace(topic_id=f"id of {name}") for name in names[: self.known]}


def test_topics_that_were_just_created_are_waited_for() -> None:
    assert assembly._existing_topics(Cluster(0), Settings()) == "id of samples"  # type: ignore[arg-type]


def test_topics_that_nobody_created_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "TOPICS_WITHIN_S", 0.0)
    with pytest.raises(Refused, match=r"probabilities, samples\.dlq.*cellstream topics"):
        assembly._existing_topics(Cluster(0), Settings())  # type: ignore[arg-type]


def test_contexts_are_looked_at_only_where_the_setting_says_so() -> None:
    assert assembly._tracing(Settings(), Metrics(), "digest") is None
    tracing = assembly._tracing(Settings(trace="headers"), Metrics(), "digest")
    assert type(tracing).__name__ == "Tracing"


def test_spans_without_the_extra_or_with_a_wrong_variable_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Settings(trace="spans")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")  # more than may wait
    with pytest.raises(UsageError, match=r"OTEL_\*: .*max_export_batch_size"):
        assembly._tracing(spans, Metrics(), "digest")
    monkeypatch.delitem(sys.modules, "worker.tracing.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(UsageError, match=r"cellstream\[otel\]"):
        assembly._tracing(spans, Metrics(), "digest")
