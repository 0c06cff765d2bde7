"""The soak: a random mix of all faults on deployments of one to four workers, for a number of kills or minutes.

Two lanes run side by side, each one deployment after the other. A lane's deployment gets its share of faults, is held
to all the laws, and gives way to the next, under another group protocol. Both share a broker that is killed and frozen,
too, behind a proxy that loses their replies. What a broken law leaves behind is kept; everything else is removed.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
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
from tests.chaos.failpoints import POINTS
from tests.chaos.nursery import Nursery
from tests.chaos.proxy import Action, Api, Proxy
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.network import ACTIONS, BY_THE_WAY, TRANSACTION
from tests.chaos.scenarios.rebalances import PROTOCOLS, WORKERS, identity
from tests.chaos.scenarios.stage import Stage
from tests.chaos.scenarios.store import empty, flip, truncate
from tests.deployment import Deployment

FAULTS_OF_A_DEPLOYMENT = 40
RECORDS_S = 150
HOSTILE = 0.02
FAILPOINT_SHARE = 0.4
STALLED_S = 90.0


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
    deployments: int = 0
    records: int = 0
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
        self._broker_free = threading.Condition()
        self._users = 0  # lanes that need a broker which is left in peace; -1 while somebody harms it

    @property
    def can_ask(self) -> bool:
        """Workers write where they are on SIGUSR1: forks of the warm process do."""
        return self._nursery is not None

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
                turns = _Turns(self, stage, random, static)
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
        try:
            yield mine
        finally:
            if mine:
                with self._broker_free:
                    self._users = 0
                    self._broker_free.notify_all()


class _Turns:
    """What happens to one deployment."""

    def __init__(self, soak: Soak, stage: Stage, random: Random, static: bool) -> None:
        self._soak = soak
        self._stage = stage
        self._random = random
        self._static = static
        self._wanted = set(random.sample(WORKERS, random.randint(1, 4)))
        self._frozen: dict[str, float] = {}
        self._with_failpoint: set[str] = set()

    def play(self) -> None:
        """Do harm until it has had its share."""
        for _ in range(FAULTS_OF_A_DEPLOYMENT):
            if self._soak.done:
                return
            self._supervise()
            if self._random.random() < 0.7:
                self._progress(self._random.randint(1, 100))
            else:
                time.sleep(self._random.uniform(0, 1.5))
            self._supervise()
            if self._soak.kill_is_next(self._random):
                self._kill()
            else:
                self._other()

    def end(self) -> None:
        """Everything is answered, and held to the laws."""
        self._soak.proxy.clear()
        for name in list(self._frozen):
            self._thaw(name)
        self._supervise(failpoints=False)
        deadline = time.monotonic() + STALLED_S
        while not self._stage.settled():
            self._supervise(failpoints=False)
            assert time.monotonic() < deadline, f"not settled within {STALLED_S:g} s\n{self._logs()}"
            time.sleep(0.1)
        self._stage.mortal.update(self._stage.workers)
        self._stage.finish()

    def _supervise(self, failpoints: bool = True) -> None:
        """What a supervisor does: start again what has ended; and wake up who has slept long enough."""
        for name, until in list(self._frozen.items()):
            if time.monotonic() > until:
                self._thaw(name)
        for name, worker in list(self._stage.workers.items()):
            code = worker.returncode
            if code is None:
                continue
            self._stage.leave(name)
            self._frozen.pop(name, None)
            if code == -9 and name in self._with_failpoint:
                self._soak.count("failpoint", kill=True)
            else:
                assert code == 1, f"{name} ended by itself with {code}:\n{worker.tail()}"
                self._soak.count("worker gave up (exit 1)")
        for name in sorted(self._wanted - set(self._stage.workers)):
            self._start(name, failpoints)

    def _start(self, name: str, failpoints: bool) -> None:
        self._with_failpoint.discard(name)
        flags = identity(name, self._static)
        if failpoints and self._random.random() < FAILPOINT_SHARE:
            point = self._random.choice(list(POINTS))
            self._with_failpoint.add(name)
            passes = self._random.randint(1, POINTS[point].passes)
            self._stage.start_with_failpoint(f"{point}:{passes}", name, *flags)
        else:
            self._stage.start(name, *flags)

    def _progress(self, more: int) -> None:
        """Wait for more answers, keeping the workers running; a deployment that stands still has failed."""
        wanted, deadline = self._stage.answers + more, time.monotonic() + STALLED_S
        while self._stage.answers < wanted and not self._soak.stopping.is_set():
            assert time.monotonic() < deadline, f"no progress within {STALLED_S:g} s\n{self._logs()}"
            self._supervise()
            time.sleep(0.02)

    def _kill(self) -> None:
        name = self._random.choice(list(self._stage.workers))
        worker = self._stage.leave(name)
        self._frozen.pop(name, None)
        if worker.kill() == -9:
            self._soak.count("at random", kill=True)

    def _other(self) -> None:
        names = [name for name in self._stage.workers if name not in self._frozen]
        kind = self._random.choice(("freeze", "stop", "scale", "reply", "reply", "cut", "hole", "broker", "damage"))
        if kind == "freeze" and names:
            name = self._random.choice(names)
            self._stage.workers[name].freeze()
            self._frozen[name] = time.monotonic() + self._random.uniform(0.5, 8)
            self._soak.count("worker frozen (SIGSTOP, SIGCONT)")
        elif kind == "stop" and names:
            self._stop(self._random.choice(names))
            self._soak.count("worker restarted (SIGTERM)")
        elif kind == "scale":
            self._scale()
        elif kind == "reply":
            action: Action = self._random.choice(list(ACTIONS))
            api: Api = self._random.choice((*TRANSACTION, *BY_THE_WAY))
            self._soak.proxy.add(action, api, seconds=self._random.uniform(0.5, 4))
            self._soak.count(f"proxy: {action} {api.name}")
        elif kind == "cut":
            self._soak.proxy.cut()
            self._soak.count("proxy: all connections cut")
        elif kind == "hole":
            self._soak.proxy.black_hole(self._random.uniform(0.5, 5))
            self._soak.count("proxy: nothing passes")
        elif kind == "broker":
            self._harm_broker()
        elif kind == "damage":
            self._damage()

    def _stop(self, name: str) -> None:
        worker = self._stage.leave(name)
        code = worker.stop(timeout_s=60)
        # It may be in the middle of a fault, or so young that it knows no SIGTERM yet.
        assert code in (0, 1, -15) or (code == -9 and name in self._with_failpoint), (
            f"{name} ended with {code} after SIGTERM:\n{worker.tail()}"
        )

    def _scale(self) -> None:
        wanted = set(self._random.sample(WORKERS, self._random.randint(1, 4)))
        for name in sorted(set(self._stage.workers) - wanted):
            self._frozen.pop(name, None)
            self._stop(name)
        self._wanted = wanted
        self._soak.count(f"scaled to {len(wanted)} workers")

    def _harm_broker(self) -> None:
        with self._soak.harming() as mine:
            if not mine:
                return
            broker = self._soak.broker
            if self._random.random() < 0.5:
                broker.kill()
                time.sleep(self._random.uniform(0, 3))
                broker.restart()
                self._soak.count("broker kill -9")
            else:
                broker.freeze()
                time.sleep(self._random.uniform(0.5, 6))
                broker.thaw()
                self._soak.count("broker frozen (SIGSTOP, SIGCONT)")

    def _damage(self) -> None:
        files = self._stage.checkpoints()
        how = self._random.choice((truncate, flip, empty, Path.unlink))
        with contextlib.suppress(OSError, IndexError):  # it was collected meanwhile, or there is none
            how(self._random.choice(files[-8:]))
            self._soak.count(f"checkpoint {how.__name__}")

    def _thaw(self, name: str) -> None:
        del self._frozen[name]
        if name in self._stage.workers:
            self._stage.workers[name].thaw()

    def _logs(self) -> str:
        if self._soak.can_ask:
            for worker in self._stage.workers.values():
                worker.signal(signal.SIGUSR1)  # where it hangs
            time.sleep(1)
        return "\n".join(f"--- {worker.log.name}\n{worker.tail(6000)}" for worker in self._stage.workers.values())


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
        f"**{len(tally.violations)} violations**.",
    ]
    return "\n".join(lines)
