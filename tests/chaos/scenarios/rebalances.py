"""Workers that come and go, under every protocol of the group, and rolling restarts."""

from __future__ import annotations

import time

from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.registry import add
from tests.chaos.scenarios.replays import replays
from tests.chaos.scenarios.stage import Stage

CONSUMER = ("--kafka", "group.protocol=consumer")
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "cooperative": (),
    "eager": ("--kafka", "partition.assignment.strategy=range"),
    "round-robin": ("--kafka", "partition.assignment.strategy=roundrobin"),
    "kip-848": CONSUMER,
}
WORKERS = [f"worker-{number}" for number in range(4)]


def identity(name: str, static: bool) -> tuple[str, ...]:
    """Static membership: to the group, a worker that is started again is the one that left."""
    return ("--kafka", f"group.instance.id={name}") if static else ()


def _storm(protocol: str, static: bool) -> None:
    def play(context: Context) -> None:
        with context.stage(*QUICK, *PROTOCOLS[protocol]) as stage:
            with stage.flowing():
                for _ in range(12):
                    _come_or_go(context, stage, static)
                    time.sleep(context.random.uniform(0, 2.5))  # a rebalance may be under way, or be over
            for name in WORKERS[:2]:
                if name not in stage.workers:
                    stage.start(name, *identity(name, static))
            stage.finish()

    members = "static members" if static else "members"
    words = (
        f"Up to four workers, {members} of a {protocol} group, start, are killed, and leave on SIGTERM at random, "
        "faster than the group settles.\n\nExpected: the outputs are, byte for byte, what an undisturbed worker "
        "answers."
    )
    add(f"storm:{protocol}{'-static' if static else ''}", play, words, long=True)


def _come_or_go(context: Context, stage: Stage, static: bool) -> None:
    name = context.random.choice(WORKERS)
    if name not in stage.workers:
        stage.start(name, *identity(name, static))
        context.faults["worker joins"] += 1
    elif context.random.random() < 0.5:
        stage.kill(name)
    else:
        stage.stop(name)


for _protocol in PROTOCOLS:
    for _static in (False, True):
        _storm(_protocol, _static)


def _rolling(protocol: str, workers: int, rounds: int, static: bool = False) -> None:
    # A slow machine must not look like a dead worker: what is tested is the hand-over in order.
    patient = () if "kip-848" in protocol else ("--kafka", "session.timeout.ms=30000")

    def play(context: Context) -> None:
        names = WORKERS[:workers]
        with context.stage(*QUICK, *PROTOCOLS[protocol], *patient) as stage:
            with stage.flowing(200):
                for name in names:
                    stage.start(name, *identity(name, static))
                stage.progress(100)
                for _ in range(rounds):
                    for name in names:
                        stage.stop(name)
                        stage.start(name, *identity(name, static))
                        stage.progress(context.random.randint(1, 200))
            stage.finish()
            handed_over, aborted = replays(worker.log for worker in stage.former)
            context.faults["abort at a join"] += len(aborted)
            assert not handed_over, f"replayed after a hand-over in order (partition, begin, end): {handed_over}"

    words = (
        f"{rounds} rolling restarts of {workers} workers by SIGTERM, one after the other, under the {protocol} "
        "protocol.\n\nExpected: each leaves with 0; what it handed over is committed and saved, so that nobody "
        "replays a record. (A commit that meets the new generation of a member that joins is aborted, and replays: "
        "those are counted apart.)"
    )
    add(f"rolling:{protocol}:{workers}x{rounds}", play, words, long=rounds * workers > 6)


for _protocol in ("cooperative", "eager", "kip-848"):
    _rolling(_protocol, 3, 20)
    _rolling(_protocol, 2, 3)
