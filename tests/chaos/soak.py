"""The soak: a random mix of all faults on deployments of one to four workers, for a number of kills or minutes.

Two lanes run side by side, each one deployment after the other. A lane's deployment gets its share of faults, is held
to all the laws, and gives way to the next, under another group protocol. Both share a broker that is killed and frozen,
too, behind a proxy that loses their replies. What a broken law leaves behind is kept; everything else is removed.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import KafkaProcess
from tests.chaos.evidence import keep_topics
from tests.chaos.nursery import Nursery
from tests.chaos.proxy import Proxy
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.rebalances import PROTOCOLS
from tests.chaos.scenarios.stage import Stage
from tests.chaos.turns import Turns
from tests.deployment import Deployment

RECORDS_S = 150
HOSTILE = 0.02


@dataclass
class Goal:
    """When to stop: what is None does not count."""

    minutes: float | None = None
    kills: int | None = None
    faults: int | None = None


@dataclass
class Tally:
    """What was done so far, and what was found."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    gave_up: int = 0
    deployments: int = 0
    records: int = 0
    broker_away_s: float = 0.0  # at the longest
    violations: list[str] = field(default_factory=list)


class Soak:
    """Lanes on a broker of their own.

    Args:
        broker: started, behind the proxy; only the soak uses it.
        proxy: by which the workers reach it.
        nursery: forks the workers; None starts each as a process of its own.
        artifact: the model.
        directory: for logs, checkpoints and evidence.
        seed: decides everything that is left to chance.
        goal: when to stop.
    """

    def __init__(
        self,
        broker: KafkaProcess,
        proxy: Proxy,
        nursery: Nursery | None,
        artifact: Path,
        directory: Path,
        seed: int,
        goal: Goal,
    ) -> None:
        self.broker = broker
        self.proxy = proxy
        self.tally = Tally()
        self.stopping = threading.Event()
        self._nursery = nursery
        self._artifact = artifact
        self._directory = directory
        self._seed = seed
        self._goal = goal
        self._begun = time.monotonic()
        self._cluster = TestCluster("kafka", broker.bootstrap_servers)
        self._lock = threading.Lock()
        self.broker_back_at = self._begun  # infinity while somebody harms it
        self._broker_free = threading.Condition()
        self._users = 0  # lanes that need a broker which is left in peace; -1 while somebody harms it

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self._begun

    @property
    def done(self) -> bool:
        """The goal is reached, or somebody wants an end."""
        goal, tally = self._goal, self.tally
        if self.stopping.is_set() or (goal.minutes is not None and self.seconds > goal.minutes * 60):
            return True
        counted = [(goal.kills, tally.kills), (goal.faults, tally.faults)]
        wanted = [(number, counter) for number, counter in counted if number is not None]
        return bool(wanted) and all(counter.total() >= number for number, counter in wanted)

    def lane(self, number: int) -> None:
        """Play one deployment after the other until the goal is reached."""
        turn = 0
        while not self.done:
            turn += 1
            name = f"seed-{self._seed}-lane-{number}-{turn}"
            self._play(name, Random(name))

    def _play(self, name: str, random: Random) -> None:
        directory = self._directory / name
        directory.mkdir()
        protocol, static = random.choice(list(PROTOCOLS)), random.random() < 0.3
        flags = [*QUICK, *PROTOCOLS[protocol], "--kafka", "socket.timeout.ms=2500", "--max-record-bytes", "250000"]
        flags += ["--bootstrap-servers", f"127.0.0.1:{self.proxy.port}"]
        with self._peace():
            deployment = Deployment.create(self._cluster, self._artifact, directory, *flags)
        if self._nursery is not None:
            deployment.spawn = self._nursery.start
        try:
            with Stage(deployment, random, Counter(), watch_every_s=0.1) as stage:
                turns = Turns(self, stage, random, static)
                with stage.flowing(RECORDS_S, HOSTILE):
                    turns.play()
                with self._peace():
                    turns.end()
                    self._count(stage)
        except Exception as fault:  # noqa: BLE001  # whatever it is, it is evidence, and the soak goes on
            words = f"{name} ({protocol}{', static' if static else ''}): {fault}"
            (directory / "why.txt").write_text(traceback.format_exc())
            with self._peace(), contextlib.suppress(Exception):
                keep_topics(deployment, directory / "topics")
            with self._lock:
                self.tally.violations.append(f"{words[:2000]}\nevidence: {directory}")
            print(f"\nVIOLATION {words[:4000]}\nevidence: {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)

    def _count(self, stage: Stage) -> None:
        with self._lock:
            self.tally.deployments += 1
            self.tally.records += len(stage.inputs)

    def count(self, kind: str, *, kill: bool = False) -> None:
        """A fault has happened."""
        with self._lock:
            (self.tally.kills if kill else self.tally.faults)[kind] += 1

    def count_gave_up(self) -> None:
        """A worker has ended by itself: what a fault has led to, and none of its own."""
        with self._lock:
            self.tally.gave_up += 1

    def kill_is_next(self, random: Random) -> bool:
        """Whether a kill is due rather than another fault, so that both goals are reached together."""
        left = []
        for number, counter, share in (
            (self._goal.kills, self.tally.kills, 5),
            (self._goal.faults, self.tally.faults, 1),
        ):
            left.append(share if number is None else max(0, number - counter.total()))
        return not sum(left) or random.random() < left[0] / sum(left)

    @contextmanager
    def _peace(self) -> Iterator[None]:
        """Nobody harms the broker meanwhile."""
        with self._broker_free:
            self._broker_free.wait_for(lambda: self._users >= 0)
            self._users += 1
        try:
            yield
        finally:
            with self._broker_free:
                self._users -= 1
                self._broker_free.notify_all()

    @contextmanager
    def harming(self) -> Iterator[bool]:
        """Harm the broker, unless somebody needs it whole: then False is yielded."""
        with self._broker_free:
            mine = self._users == 0
            if mine:
                self._users = -1
        begun = time.monotonic()
        if mine:
            self.broker_back_at = float("inf")
        try:
            yield mine
        finally:
            if mine:
                self.broker_back_at = time.monotonic()
                self.tally.broker_away_s = max(self.tally.broker_away_s, self.broker_back_at - begun)
                with self._broker_free:
                    self._users = 0
                    self._broker_free.notify_all()


def table(tally: Tally, seconds: float, command: str) -> str:
    """The result, as a table that a page of documentation can take."""
    lines = ["| fault | times |", "|---|---|"]
    lines += [f"| worker kill -9, {kind} | {count:,} |" for kind, count in sorted(tally.kills.items())]
    lines += [f"| {kind} | {count:,} |" for kind, count in sorted(tally.faults.items())]
    minutes = seconds / 60
    lines += [
        "",
        f"`{command}`: {tally.kills.total():,} kills and {tally.faults.total():,} other faults in {minutes:.1f} "
        f"minutes, on {tally.deployments} deployments with {tally.records:,} records; "
        f"{tally.gave_up} workers gave up by themselves (exit 1) and were started again; the broker was away for "
        f"{tally.broker_away_s:.0f} s at most; "
        f"**{len(tally.violations)} violations**.",
    ]
    return "\n".join(lines)
