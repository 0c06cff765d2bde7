"""What happens to one deployment of the soak: kills and other faults at random, and a supervisor that restarts."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.failpoints import POINTS
from tests.chaos.proxy import Action, Api
from tests.chaos.scenarios.network import ACTIONS, BY_THE_WAY, TRANSACTION
from tests.chaos.scenarios.rebalances import WORKERS, identity
from tests.chaos.scenarios.stage import Stage
from tests.chaos.scenarios.store import empty, flip, truncate

if TYPE_CHECKING:
    from tests.chaos.soak import Soak

FAULTS_OF_A_DEPLOYMENT = 40
FAILPOINT_SHARE = 0.4
STALLED_S = 90.0


class Turns:
    """Harm of one kind after the other, until the deployment has had its share.

    Args:
        soak: whose tally, goal, broker and proxy.
        stage: the deployment.
        random: decides what comes next.
        static: the workers are static members of the group.
    """

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
        begun = time.monotonic()
        while not self._stage.settled():
            self._supervise(failpoints=False)
            assert not self._stalled(begun), f"not settled within {STALLED_S:g} s\n{self._stage.logs()}"
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
                self._soak.count_gave_up()
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
        wanted, begun = self._stage.answers + more, time.monotonic()
        while self._stage.answers < wanted and not self._soak.stopping.is_set():
            assert not self._stalled(begun), f"no progress within {STALLED_S:g} s\n{self._stage.logs()}"
            self._supervise()
            time.sleep(0.02)

    def _stalled(self, begun: float) -> bool:
        """Whether nothing happens for too long, counted from when the broker was back."""
        return time.monotonic() > max(begun, self._soak.broker_back_at) + STALLED_S

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
