"""A worker dies: at random moments, and at every failpoint."""

from __future__ import annotations

import time

from tests.chaos.failpoints import POINTS, Failpoint
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.registry import add, scenario
from tests.chaos.scenarios.stage import Stage

# Small polls and short transactions: a kill finds the work at many different points.
QUICK = ("--poll-records", "200", "--commit-interval-ms", "20", "--checkpoint-interval-s", "0.4")


@scenario("kill")
def kill(context: Context) -> None:
    """`kill -9` of the only worker, four times, at any moment from its start on; samples flow all the time.

    Expected: the outputs are, byte for byte, what an undisturbed worker answers.
    """
    with context.stage(*QUICK) as stage:
        with stage.flowing(600):
            for _ in range(4):
                stage.start()
                if context.random.random() < 0.75:
                    stage.progress(context.random.randint(1, 800))
                    time.sleep(context.random.uniform(0, 0.03))
                else:
                    time.sleep(context.random.uniform(0.3, 3))
                stage.kill()
        stage.finish()


@scenario("kill-among-four", long=True)
def kill_among_four(context: Context) -> None:
    """`kill -9` of one of four workers, twelve times; it starts again while the others take its partitions over.

    Expected: the outputs are, byte for byte, what an undisturbed worker answers.
    """
    with context.stage(*QUICK) as stage:
        with stage.flowing(600):
            names = [f"worker-{number}" for number in range(4)]
            for name in names:
                stage.start(name)
            for _ in range(12):
                stage.progress(context.random.randint(1, 800))
                name = context.random.choice(names)
                stage.kill(name)
                time.sleep(context.random.uniform(0, 2))
                stage.start(name)
        stage.finish()


@scenario("failpoints", long=True)
def failpoints(context: Context) -> None:
    """A worker dies at every failpoint, one after the other, in random order; samples flow all the time.

    Expected: the outputs are, byte for byte, what an undisturbed worker answers.
    """
    names = list(POINTS)
    context.random.shuffle(names)
    with context.stage(*QUICK) as stage:
        with stage.flowing(400):
            for name in names:
                die_at(stage, name, POINTS[name])
        stage.finish()


def die_at(stage: Stage, name: str, point: Failpoint) -> None:
    """Bring a worker to a failpoint: what it needs besides samples is seen to first. No worker runs before or after."""
    if name in ("restore-loaded", "mid-replay"):  # something to restore, and committed work behind it
        stage.start()
        stage.until(lambda: len(stage.checkpoints()) > 0, "a checkpoint")
        stage.kill()
        stage.start("worker-0", "--checkpoint-interval-s", "3600")
        stage.progress(600)
        stage.kill()
    passes = stage.random.randint(1, point.passes)
    stage.start_with_failpoint(f"{name}:{passes}")
    if name.startswith("revoke"):
        stage.progress(1)
        _take_partitions_from(stage)
    stage.dies(kind=f"failpoint {name}")
    if name.startswith("revoke"):
        stage.kill("worker-1")


def _take_partitions_from(stage: Stage) -> None:
    """Start a second worker, so that the first one is asked for partitions; again, where it was not asked.

    On a machine that has other things to do its session may end meanwhile: then it loses partitions without a question,
    and gets its share as the one that joins.
    """
    first = stage.workers["worker-0"]
    stage.mortal.add("worker-0")
    while first.returncode is None:
        if "worker-1" in stage.workers:
            stage.kill("worker-1")
        second = stage.start("worker-1")
        taken = lambda second=second: first.returncode is not None or "restored" in second.log.read_text()  # noqa: E731
        stage.until(taken, "a worker that hands partitions over")
    stage.mortal.discard("worker-0")


def _failpoint(name: str, point: Failpoint) -> None:
    def play(context: Context) -> None:
        with context.stage(*QUICK) as stage:
            with stage.flowing(400):
                die_at(stage, name, point)
            stage.finish()

    words = (
        f"A worker dies here: {point.words}. Another takes over.\n\nExpected: the outputs are, byte for byte, what an "
        "undisturbed worker answers."
    )
    add(f"failpoint:{name}", play, words)


for _name, _point in POINTS.items():
    _failpoint(_name, _point)
