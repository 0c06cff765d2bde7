"""Rows about latency at half load: from the moment a sample was meant to be sent until its event can be read.

The publisher is open-loop (`worker.bench.open_loop`): what it could not send in time counts as latency, too. Events are
read from one partition of the output, which takes a fair share of all streams and spares the processor; committed
ones only, where delivery is exactly once.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition
from numpy.typing import NDArray

from worker.bench.aims import Aim, Measured, spread
from worker.bench.contestant import Contestant, environment
from worker.bench.stage import Stage
from worker.errors import FatalFault

LOAD = 0.5
BEYOND_COMMIT_MS = 20.0
WARM_S = 1.0  # of every lap, not counted
READ_PARTITION = 0
STALL_S = 60.0
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9)
MILLIS = "{:.0f} ms"


class Stamped(msgspec.Struct, gc=False):
    """What of an event is read."""

    timestamp: int


DECODER = msgspec.json.Decoder(Stamped)


def latency(stage: Stage) -> list[Measured]:
    """Passthrough and worker at least once, at half of the worker's own rate; worker exactly once at half of its."""
    scale = stage.scale
    found: dict[str, list[NDArray[Any]]] = {"passthrough": [], "cellstream": [], "exactly once": []}
    with ExitStack() as stack:
        plain = stack.enter_context(stage.contestant("passthrough", delivery="at_least_once"))
        worker = stack.enter_context(stage.contestant("cellstream", delivery="at_least_once"))
        exact = stack.enter_context(stage.contestant("cellstream"))
        rates = []
        for contestant in (plain, worker, exact):
            stage.say(f"{contestant.name}: start and warm-up")
            contestant.warm_up(max(100, scale.records // 10), scale.streams, scale.rest)
            rates.append(LOAD * contestant.lap(scale.records, scale.streams).rate)
        offered = {"passthrough": rates[1], "cellstream": rates[1], "exactly once": rates[2]}
        late = []
        for number in range(scale.repeats):
            for name, contestant in zip(found, (plain, worker, exact), strict=True):
                stage.say(f"round {number + 1} of {scale.repeats}: {name} at {offered[name]:,.0f}/s")
                latencies, late_ms = _lap(stage, contestant, offered[name])
                found[name].append(np.percentile(latencies, PERCENTILES))
                late.append(late_ms)
    p99 = PERCENTILES.index(99.0)
    late_99 = {name: [float(lap[p99]) for lap in laps] for name, laps in found.items()}
    medians = {name: np.median(laps, axis=0).tolist() for name, laps in found.items()}
    interval = stage.settings.commit_interval_ms
    return [
        Measured(
            "p99 latency at 50 % load, at least once, over passthrough's",
            Aim(1.5, at_least=False),
            tuple(a / b for a, b in zip(late_99["cellstream"], late_99["passthrough"], strict=True)),
            f"{spread(late_99['cellstream'], MILLIS)} by {spread(late_99['passthrough'], MILLIS)}, both at "
            f"{offered['cellstream']:,.0f}/s; publisher's own delay {max(late):.0f} ms at most",
            curves={"percentiles": PERCENTILES, **medians},
        ),
        Measured(
            f"p99 latency at 50 % load, exactly once, commits every {interval} ms",
            Aim(interval + BEYOND_COMMIT_MS, at_least=False, form=MILLIS),
            tuple(late_99["exactly once"]),
            f"at {offered['exactly once']:,.0f}/s; half of the events within {medians['exactly once'][0]:.0f} ms",
        ),
    ]


def _lap(stage: Stage, contestant: Contestant, rate: float) -> tuple[NDArray[np.float64], float]:
    """Milliseconds of every event of one partition, and the publisher's 99th percentile of being late.

    Raises:
        FatalFault: no event comes any more, or the publisher failed.
    """
    told = contestant.settings
    topic = told["output_topic"]
    committed = "read_uncommitted" if told.get("delivery") == "at_least_once" else "read_committed"
    conf = {"group.id": topic, "isolation.level": committed, "fetch.queue.backoff.ms": 5, "fetch.wait.max.ms": 50}
    reader = Consumer({**stage.settings.kafka_conf(), **conf})
    place = TopicPartition(topic, READ_PARTITION)
    reader.assign([TopicPartition(topic, READ_PARTITION, reader.get_watermark_offsets(place, timeout=30)[1])])
    before = contestant.input_ends()[READ_PARTITION]
    arguments = [rate, stage.scale.seconds, stage.scale.streams, contestant.traffic.features]
    command = [sys.executable, "-m", "worker.bench.open_loop", *map(str, arguments)]
    gc.collect()
    gc.freeze()
    gc.disable()  # thousands of fresh messages would have it walk all that TensorFlow made
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(told)) as publisher:
            arrived, stamps = _read(reader, publisher, lambda: contestant.input_ends()[READ_PARTITION] - before)
            assert publisher.stdout is not None
            said = publisher.stdout.read()
    finally:
        gc.enable()
        reader.close()
    if publisher.returncode:
        raise FatalFault(f"the publisher ended with {publisher.returncode}")
    sent = json.loads(said)
    counted = stamps >= sent["begun_ms"] + 1000 * WARM_S
    return (arrived - stamps)[counted], sent["late_ms"]


def _read(
    reader: Consumer, publisher: subprocess.Popen[bytes], expected: Callable[[], int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """When events came and what they were stamped with, in ms, until the publisher has ended and all are there."""
    arrivals: list[tuple[float, int]] = []
    stamps: list[int] = []
    total: int | None = None
    seen = time.monotonic()
    while total is None or len(stamps) < total:
        if total is None and publisher.poll() is not None:
            total = expected()
        messages = reader.consume(1, 0.1)
        if messages:
            messages += reader.consume(10_000, 0)
            now, seen = time.time() * 1000, time.monotonic()
            stamps += [DECODER.decode(value).timestamp for value in map(Message.value, messages)]
            arrivals.append((now, len(messages)))
        elif time.monotonic() - seen > STALL_S:
            raise FatalFault(f"no event came for {STALL_S:.0f} s; {len(stamps)} of {total} did")
    times, counts = zip(*arrivals, strict=True) if arrivals else ((), ())
    return np.repeat(np.array(times, np.float64), counts), np.array(stamps, np.float64)
