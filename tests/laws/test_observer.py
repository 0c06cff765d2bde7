"""Laws of what is shown of a partition's checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from worker.checkpoint import CheckpointRef, Written
from worker.metrics import Metrics
from worker.observer import Observer
from worker.pages.health import Health
from worker.state.partition import PartitionState

RETENTION_S = 100


def test_the_margin_counts_from_the_last_checkpoint_and_before_the_first_from_the_assignment() -> None:
    now = [1000.0]
    metrics = Metrics(now=lambda: now[0])
    observer = Observer(metrics, Health(), 1000 * RETENTION_S, clock=lambda: now[0])
    results: list[Any] = []
    worker: Any = SimpleNamespace(
        states={3: PartitionState(3, 4, np.zeros(1, np.float32), 0)},
        source=SimpleNamespace(joined=True, log_end=lambda partition: None),
        restores=SimpleNamespace(waiting=set()),
        keeper=SimpleNamespace(results=lambda: results),
    )

    def shown() -> list[float | None]:
        observer.turn(worker)
        names = ("cellstream_input_retention_margin_seconds", "cellstream_checkpoint_age_seconds")
        return [metrics.registry.get_sample_value(name, {"partition": "3"}) for name in names]

    observer.assigned([3])
    now[0] += 30
    assert shown() == [RETENTION_S - 30, 30], "a store that never worked has nothing to count from"
    ref = CheckpointRef("samples", 3, 50, "f" * 64, "", 12345)
    results.append(Written(ref, seconds=0.1, created_ms=round(1000 * (now[0] - 10))))
    now[0] += 1
    assert shown() == [RETENTION_S - 11, 11]
