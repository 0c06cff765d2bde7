"""Plausible snapshots, and what is done to their files."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings

from worker.artifact import StateSlot
from worker.checkpoint import CheckpointRef, Snapshot

TOPIC = "samples"
ROOT = Path(__file__).parents[2]
COLUMNS = ("timesteps", "starts", "start_samples", "times", "offsets")
REUSES_THE_FOLDER: dict[str, Any] = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "deadline": None}
reuses_the_folder = settings(**REUSES_THE_FOLDER)


def make_layout(*shapes: tuple[int, ...]) -> tuple[StateSlot, ...]:
    starts = accumulate((prod(shape) for shape in shapes), initial=0)
    pairs = enumerate(zip(shapes, starts, strict=False))
    return tuple(StateSlot(layer=f"lstm_{i}", name="hc"[i % 2], shape=shape, offset=at) for i, (shape, at) in pairs)


LAYOUT = make_layout((3,), (2, 2))


def make_snapshot(
    next_offset: int = 100,
    ids: list[bytes] | None = None,
    *,
    topic: str = TOPIC,
    partition: int = 0,
    layout: tuple[StateSlot, ...] = LAYOUT,
    **changes: Any,
) -> Snapshot:
    """A plausible snapshot in which every number differs from every other."""
    ids = [b"a", b"bb", b"", "żółw".encode()] if ids is None else ids
    n, size = len(ids), sum(prod(slot.shape) for slot in layout)
    row = np.arange(n, dtype=np.int64)
    states = (np.arange(n * size, dtype=np.float32) - 7.25).reshape(n, size)
    values: dict[str, Any] = {
        "topic_id": "Abc-_123",
        "leader_epoch": 7,
        "artifact_digest": "d1" * 32,
        "stream_time": 1_700_000_000_999,
        "stream_ids": ids,
        "states": states,
        "timesteps": row + 5,
        "starts": row * 2,
        "start_samples": row % 3,
        "times": row + 1_700_000_000_000,
        "offsets": row * 2 + 1,
        "created_ms": 1_700_000_001_234,
    }
    return Snapshot(topic=topic, partition=partition, next_offset=next_offset, **(values | changes))


def assert_equal(found: Snapshot, expected: Snapshot) -> None:
    assert found.index in (None, {stream_id: place for place, stream_id in enumerate(found.stream_ids)})
    for name in Snapshot.__dataclass_fields__.keys() - {"index"}:
        left, right = getattr(found, name), getattr(expected, name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        else:
            assert left == right, name
            assert type(left) is type(right), name


def overwrite(ref: CheckpointRef, content: bytes) -> None:
    Path(ref.path).write_bytes(content)
