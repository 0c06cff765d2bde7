"""Rows about samples per second: JSON, float32, chunks, and one hot stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psutil

from worker.bench.aims import Aim, Measured, spread
from worker.bench.contestant import Contestant, Lap
from worker.bench.race import run_race
from worker.bench.stage import Stage
from worker.bench.volley import Traffic

CHUNK = 64
CHUNK_RECORDS = 1_000  # of a poll: 64,000 samples, so that a turn is short beside the commit interval
RATE, MICROS = "{:,.0f}/s", "{:.2f} us"


def json(stage: Stage) -> list[Measured]:
    """Exactly once, JSON: rate and processor time over the passthrough's, the batch-of-one loop beside them."""
    report = run_race(stage)
    laps = {row.name: row.laps for row in report.rows}
    found = over_passthrough("exactly once, JSON", laps["cellstream"], laps["passthrough"])
    curves = {name: [lap.rate for lap in laps[name]] for name in laps}
    return [replace(found[0], curves=curves, beside=report.markdown()), found[1]]


def float32(stage: Stage) -> list[Measured]:
    """The same with float32 values, over a passthrough of such values."""
    scale, traffic = stage.scale, replace(stage.traffic, codec="float32")
    with ExitStack() as stack:
        both = [
            stack.enter_context(stage.contestant(name, traffic, input_codec="float32"))
            for name in ("passthrough", "cellstream")
        ]
        rounds(stage, both, [scale.records] * 2)
        plain, worker = (contestant.laps for contestant in both)
    return over_passthrough("exactly once, float32", worker, plain)[:1]


def chunks(stage: Stage) -> list[Measured]:
    """Chunks of 64 samples, an event for each record; the worker, all its threads, on one core."""
    records = max(CHUNK_RECORDS, 4 * stage.scale.records // CHUNK)
    found = []
    for codec in ("json", "float32"):
        traffic = Traffic(stage.traffic.features, CHUNK, codec)
        told: dict[str, Any] = {"input_codec": codec, "output_per": "record", "poll_records": CHUNK_RECORDS}
        with stage.contestant("cellstream", traffic, cores=_one_core(), **told) as worker:
            rounds(stage, [worker], [records])
            laps = worker.laps
        found.append(
            Measured(
                f"{codec} chunks of {CHUNK} samples, output per record, one core: samples/s",
                Aim(1_000_000, at_least=True, form="{:,.0f}"),
                tuple(lap.rate for lap in laps),
                f"{spread([lap.cpu_us for lap in laps], MICROS)} of CPU a sample",
            )
        )
    return found


def _one_core() -> list[int] | None:
    """One that this process may use; None where the system does not let one choose."""
    process = psutil.Process()
    return process.cpu_affinity()[:1] if hasattr(process, "cpu_affinity") else None


def hot(stage: Stage) -> list[Measured]:
    """One stream that has all samples, over many streams, by the same worker."""
    scale, records = stage.scale, max(10_000, stage.scale.records // 4)
    many, one = [], []
    with stage.contestant("cellstream") as worker:
        worker.warm_up(max(100, scale.records // 10), scale.streams, scale.rest)
        worker.lap(records // 4, 1)
        for number in range(scale.repeats):
            stage.say(f"round {number + 1} of {scale.repeats}: {scale.streams:,} streams, then one")
            many.append(worker.lap(scale.records, scale.streams).rate)
            one.append(worker.lap(records, 1).rate)
    return [
        Measured(
            f"one hot stream over {scale.streams:,} streams",
            Aim(0.8, at_least=True),
            tuple(a / b for a, b in zip(one, many, strict=True)),
            f"{spread(one, RATE)} by {spread(many, RATE)}",
        )
    ]


def rounds(stage: Stage, contestants: Sequence[Contestant], records: Sequence[int]) -> None:
    """Warm up, then a lap of each in turn for every round."""
    scale = stage.scale
    for contestant, count in zip(contestants, records, strict=True):
        stage.say(f"{contestant.name}: start and warm-up")
        contestant.warm_up(max(100, count // 10), scale.streams, scale.rest)
    for number in range(scale.repeats):
        for contestant, count in zip(contestants, records, strict=True):
            stage.say(f"round {number + 1} of {scale.repeats}: {contestant.name}")
            contestant.lap(count, scale.streams)


def over_passthrough(what: str, worker: Sequence[Lap], plain: Sequence[Lap]) -> list[Measured]:
    """Rate and processor time, each over the passthrough's of the same round."""
    pairs = list(zip(worker, plain, strict=True))
    rates = [[lap.rate for lap in laps] for laps in (worker, plain)]
    micros = [[lap.cpu_us for lap in laps] for laps in (worker, plain)]
    return [
        Measured(
            f"{what}: samples/s over passthrough's",
            Aim(0.75, at_least=True),
            tuple(a.rate / b.rate for a, b in pairs),
            " by ".join(spread(values, RATE) for values in rates),
        ),
        Measured(
            f"{what}: process CPU per sample over passthrough's",
            Aim(1.5, at_least=False),
            tuple(a.cpu_us / b.cpu_us for a, b in pairs),
            " by ".join(spread(values, MICROS) for values in micros),
        ),
    ]
