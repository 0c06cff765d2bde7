"""The row about replaying: a worker that stood still for longer than its session, and has no checkpoint.

It finds its partitions lost when it goes on, drops its memory, and steps all records of the group again up to the
committed offsets, its blocks compiled as they were for the live laps. How far it is, its own metrics say.
"""

from __future__ import annotations

import json
import time
import urllib.request

from worker.bench.aims import Aim, Measured, spread
from worker.bench.contestant import Contestant
from worker.bench.rows.rates import RATE
from worker.bench.stage import Stage
from worker.errors import FatalFault

SESSION_S = 6.0  # the least that a broker allows unless it was told otherwise
COUNTER = "cellstream_replayed_records_total"
LOOK_EVERY_S = 0.05
STALL_S = 90.0


def replay(stage: Stage) -> list[Measured]:
    """Each round: a live lap, then a replay of all laps so far."""
    scale = stage.scale
    live, again = [], []
    session = {**stage.settings.kafka, "session.timeout.ms": f"{SESSION_S * 1000:.0f}"}
    with stage.contestant("cellstream", kafka=session, checkpoint_interval_s=86_400) as worker:
        worker.warm_up(max(100, scale.records // 10), scale.streams, scale.rest)
        page = _address(worker)
        for number in range(scale.repeats):
            stage.say(f"round {number + 1} of {scale.repeats}: live, then again")
            live.append(worker.lap(scale.records, scale.streams).rate)
            again.append(_replayed(worker, page))
    return [
        Measured(
            "replay speed over live speed",
            Aim(2, at_least=True),
            tuple(a / b for a, b in zip(again, live, strict=True)),
            f"{spread(again, RATE)} by {spread(live, RATE)}",
        )
    ]


def _replayed(worker: Contestant, page: str) -> float:
    """Freeze the worker until its session has ended; records per second from the first look that moved to the last."""
    before = _counted(page)
    worker.freeze(SESSION_S + 1.5)
    moved: list[tuple[float, float]] = []
    deadline = time.monotonic() + STALL_S
    while not moved or time.monotonic() - moved[-1][0] < 2.0:
        time.sleep(LOOK_EVERY_S)
        now, count = time.monotonic(), _counted(page)
        if count > (moved[-1][1] if moved else before):
            moved.append((now, count))
        if now > deadline:
            raise FatalFault(f"nothing was replayed within {STALL_S:.0f} s; the worker said:\n{worker.said()[-4_000:]}")
    if len(moved) < 2:
        raise FatalFault("the replay was over within one look: it needs more records")
    (begun, first), (ended, last) = moved[0], moved[-1]
    return (last - first) / (ended - begun)


def _counted(page: str) -> float:
    with urllib.request.urlopen(f"{page}?name[]={COUNTER}", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(COUNTER))


def _address(worker: Contestant) -> str:
    """Of the page of metrics, by the worker's log."""
    for line in worker.said().splitlines():
        if line.startswith("{") and (event := json.loads(line)).get("event") == "metrics":
            return str(event["address"])
    raise FatalFault(f"the worker did not say where its metrics are:\n{worker.said()[-4_000:]}")
