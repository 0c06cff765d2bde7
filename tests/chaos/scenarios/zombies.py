"""Workers that come back from the dead: frozen beyond every time-out, hanging, or doubled."""

from __future__ import annotations

import time

from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.registry import add, scenario
from tests.chaos.scenarios.stage import Stage

MAX_POLL = ("--kafka", "max.poll.interval.ms=3000")
PROTOCOLS = {
    "cooperative": (),
    "eager": ("--kafka", "partition.assignment.strategy=range"),
    "kip-848": ("--kafka", "group.protocol=consumer"),
}


def _zombie(protocol: str) -> None:
    def play(context: Context) -> None:
        with context.stage(*QUICK, *MAX_POLL, *PROTOCOLS[protocol]) as stage:
            with stage.flowing():
                zombie = stage.start("worker-0")
                stage.mortal.add("worker-0")
                stage.progress(100)
                stage.start("worker-1")
                stage.progress(context.random.randint(100, 500))
                zombie.freeze()
                context.faults["SIGSTOP"] += 1
                _taken_over(stage)
                time.sleep(context.random.uniform(4, 8))  # beyond the session and max.poll.interval
                zombie.thaw()
                stage.progress(500)
                time.sleep(2)  # long enough for its own commit to arrive, if it had one
            _end_zombie(stage)
            stage.finish()

    words = (
        "One of two workers is frozen (SIGSTOP) for longer than its session and its max.poll.interval, in the middle "
        "of its work. The other takes its partitions over; then the frozen one goes on (SIGCONT). The group's "
        f"protocol is {protocol}.\n\nExpected: what the zombie had begun is aborted or refused; it joins again or ends "
        "with 1. Nothing is doubled."
    )
    add("zombie" if protocol == "cooperative" else f"zombie:{protocol}", play, words)


for _protocol in PROTOCOLS:
    _zombie(_protocol)


@scenario("zombie:hanging")
def hanging(context: Context) -> None:
    """The loop of one of two workers hangs for 6 s between offsets and commit, while its heartbeats go on.

    Only max.poll.interval.ms (3 s) tells the group. The other takes over; then the hanging one commits.
    Expected: the commit is refused. Nothing is doubled.
    """
    with context.stage(*QUICK, *MAX_POLL) as stage:
        with stage.flowing():
            stage.start("worker-1")
            stage.progress(100)
            stage.start_with_failpoint("after-offsets:20:6", "worker-0")
            stage.mortal.add("worker-0")
            context.faults["hang"] += 1
            stage.until(lambda: "hanging" in stage.workers["worker-0"].tail(20_000), "the hang")
            _taken_over(stage)
            time.sleep(7)
            stage.progress(500)
        _end_zombie(stage)
        stage.finish()


@scenario("zombie:alone")
def alone(context: Context) -> None:
    """The only worker is frozen for longer than its session and its transaction time-out (10 s), again and again.

    Expected: it goes on, or ends with 1 and is started again. Nothing is doubled.
    """
    with context.stage(*QUICK, *MAX_POLL) as stage:
        with stage.flowing(200):
            stage.start()
            for seconds in (3, 14):
                stage.supervised(context.random.randint(50, 300))
                stage.workers["worker-0"].freeze()
                context.faults["SIGSTOP"] += 1
                time.sleep(seconds)
                stage.workers["worker-0"].thaw()
            stage.supervised(100)  # it may end at any moment now, and is started again
        stage.finish()


@scenario("two-of-one-name")
def two_of_one_name(context: Context) -> None:
    """A second worker is started with the instance_id, and so the transactional.id, of one that runs.

    Expected: the first is fenced, ends with 1 and says which setting to change. Nothing is doubled.
    """
    with context.stage(*QUICK) as stage:
        with stage.flowing():
            stage.start()
            stage.progress(100)
            stage.workers["the first"] = stage.workers.pop("worker-0")
            stage.start()
            context.faults["second of one name"] += 1
            first = stage.workers.pop("the first")
            stage.until(lambda: first.returncode is not None, "the end of the first")
            stage.workers["the first"] = first
            stage.ends(1, "instance_id worker-0 fence each other", name="the first")
            stage.progress(200)
        stage.finish()


def _taken_over(stage: Stage) -> None:
    peer = stage.workers["worker-1"]
    before = peer.log.read_text(errors="replace").count("restored ")
    stage.until(lambda: peer.log.read_text(errors="replace").count("restored ") > before, "the peer taking over")


def _end_zombie(stage: Stage) -> None:
    """It may have ended with 1: whoever supervises it would start it again."""
    if stage.workers["worker-0"].returncode is not None:
        stage.ends(1)
