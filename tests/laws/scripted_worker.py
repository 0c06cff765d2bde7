"""The real worker on scripted clients and a real checkpoint store, started again whenever it crashes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.laws.reference import LeakySum
from tests.laws.scripted import Cluster, Crash, Script, ScriptedSink, ScriptedSource
from tests.laws.test_engine import batch_of, engine_of, state_of
from worker.artifact import StateSlot
from worker.checkpoint import CheckpointStore, CheckpointWriter
from worker.dead_letters import BadRecordLimit
from worker.loop import Worker
from worker.metrics import Metrics
from worker.observer import Observer
from worker.pages.health import Health
from worker.records import RecordBatch
from worker.recovery.keeper import StateKeeper
from worker.recovery.start import Policies

DIGEST = "0123456789ab" + "0" * 52
LAYOUT = (StateSlot("leaky_sum", "h", (1,), 0), StateSlot("leaky_sum", "c", (1,), 1))
RULE = {"sequence_length": None, "idle_ms": 15, "capacity": 3}

faults = st.dictionaries(st.integers(1, 80), st.sampled_from(["crash", "abort", "crash_after", "stale"]), max_size=6)
sizes = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any)


class Stop(Event):
    """Set as soon as everything is answered, or after so many turns that it never will be."""

    def __init__(self, cluster: Cluster, turns: int = 3000) -> None:
        super().__init__()
        self.cluster, self.turns = cluster, turns

    def is_set(self) -> bool:
        self.turns -= 1
        assert self.turns > 0, "the worker does not come to rest"
        return super().is_set() or self.cluster.at_rest()


def worker_on(cluster: Cluster, script: Script, url: str, sizes: list[int], **policies: str) -> Worker:
    """The real worker on a scripted client and a real checkpoint store."""
    keeper = StateKeeper(
        CheckpointWriter(CheckpointStore(url, "group", LAYOUT), 2),
        LeakySum.initial_state,
        RULE["capacity"],  # type: ignore[arg-type]
        DIGEST,
        Policies(**policies),
        interval_s=1e9,
        interval_records=2,
    )
    return Worker(
        ScriptedSource(cluster, script, itertools.cycle(sizes)),  # type: ignore[arg-type]
        ScriptedSink(cluster, script),  # type: ignore[arg-type]
        engine_of(RULE),
        keeper,
        Observer(Metrics(), Health()),
        BadRecordLimit(1.0),
        DIGEST,
        "topic-id",
        commit_interval_s=0.0,
        poll_records=100,
        clock=clock(),
    )


def clock() -> Callable[[], float]:
    """A clock that moves when it is looked at: what waits comes again after some turns, however fast they are."""
    looks = itertools.count()
    return lambda: next(looks) * 0.02


def live(cluster: Cluster, script: Script, url: str, sizes: list[int]) -> None:
    """Run workers, one after the other as each crashes, until everything is answered."""
    for _ in range(len(script.faults) + 1):
        worker = worker_on(cluster, script, url, sizes)
        try:
            worker.startup()
            worker.run(Stop(cluster))
            worker.shutdown()
        except Crash:
            worker.keeper.wait(5.0)  # the thread is of this process; a real crash may also lose its write
            worker.keeper.close(0.0)
        else:
            return
    pytest.fail("more crashes than the script has")


def topic_of(logs_: list[list[Any]]) -> dict[int, RecordBatch]:
    topic = {}
    for partition, log in enumerate(logs_):
        batch = batch_of(log) if log else RecordBatch(partition, [], [], [], [])
        batch.partition = partition
        topic[partition] = batch
    return topic


def undisturbed(topic: dict[int, RecordBatch]) -> list[tuple[bytes, bytes]]:
    engine, outputs = engine_of(RULE), []
    for partition, batch in topic.items():
        state = state_of(RULE)
        state.partition = partition
        outcome = engine.process([(batch, state)])
        outputs += list(zip(outcome.keys, outcome.values, strict=True))
    return outputs
