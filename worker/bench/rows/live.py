"""Rows about many live streams: processor time of a sample, and memory of a stream."""

from __future__ import annotations

from worker.bench.aims import Aim, Measured, spread
from worker.bench.rows.rates import MICROS
from worker.bench.stage import Stage

FEW = 1_000
BYTES = "{:,.0f} bytes"


def live(stage: Stage) -> list[Measured]:
    """Two workers, one that knows a thousand streams and one that knows a million; random streams of each."""
    scale, raw = stage.scale, 4 * stage.artifact.manifest.state_size
    small, large, bytes_each = [], [], []
    with stage.contestant("cellstream") as few, stage.contestant("cellstream") as many:
        for worker in (few, many):
            stage.say("cellstream: start and warm-up")
            worker.warm_up(max(100, scale.records // 10), FEW, scale.rest)
        stage.say(f"{scale.live:,} streams begin")
        many.lap(scale.live, scale.live, each_once=True)
        for number in range(scale.repeats):
            stage.say(f"round {number + 1} of {scale.repeats}: {FEW:,} live streams, then {scale.live:,}")
            small.append(few.lap(scale.records, FEW).cpu_us)
            large.append(many.lap(scale.records, scale.live).cpu_us)
            bytes_each.append((many.memory_bytes - few.memory_bytes) / (scale.live - FEW))
    return [
        Measured(
            f"{scale.live:,} live streams over {FEW:,}: CPU per sample",
            Aim(1.3, at_least=False),
            tuple(a / b for a, b in zip(large, small, strict=True)),
            f"{spread(large, MICROS)} by {spread(small, MICROS)}",
        ),
        Measured(
            f"memory per live stream, with {raw} bytes of raw state",
            Aim(1.5 * raw + 100, at_least=False, form=BYTES),
            tuple(bytes_each),
            f"{bytes_each[-1] / raw:.2f} times the raw state",
        ),
    ]
