"""The checker catches every seeded bug on a real broker, and finds nothing where there is none.

A scenario provokes several bugs; the undamaged worker and those with a bug go through it side by side, each in a group
of its own. A bug counts as caught only by a law that is about it.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Input, Violation, Watch, hold
from tests.chaos.mutants import MUTANTS
from tests.chaos.nursery import Nursery
from tests.chaos.traffic import publish
from tests.deployment import Deployment, limit_messages, until, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

UNDAMAGED = "undamaged"
# Many polls to a commit, so that a bug between two commits has something to harm.
FLAGS = ("--poll-records", "5", "--commit-interval-ms", "500", "--checkpoint-interval-s", "0.2")
RECORDS, STREAMS = 1_200, 30
AT_ONCE = 3
ATTEMPTS = 4
WITHIN_S = 100.0


@dataclass
class Play:
    """One worker version, with a bug or none, in a scenario."""

    deployment: Deployment
    launch: tuple[str, ...]
    watch: Watch
    inputs: list[Input]

    def more(self, seed: int, count: int = RECORDS) -> None:
        """Publish more samples of the same streams."""
        self.inputs += publish(self.deployment.cluster, self.deployment.input_topic, count, STREAMS, seed)

    def settle(self, *workers: Process) -> None:
        """Wait until everything is committed: outputs may be missing, or too many."""
        ends = [max(r.offset for r in self.inputs if r.partition == p) + 1 for p in range(4)]
        until(lambda: list(self.watch.committed) == ends, f"committed offsets {ends}", *workers, within_s=WITHIN_S)


def killed(play: Play) -> None:
    """`kill -9` in the middle of the work, and a restart under the same name, from the log alone: all is replayed."""
    play.more(seed=2)  # so much that it is not done when the worker dies
    worker = play.deployment.start_worker(launch=play.launch)
    until_read(play.watch, RECORDS // 5, worker, within_s=WITHIN_S)
    worker.kill()
    shutil.rmtree(play.deployment.checkpoints, ignore_errors=True)
    play.more(seed=3)
    with play.deployment.worker(launch=play.launch) as worker:
        play.settle(worker)
        assert worker.stop() == 0, worker.tail()


def quiet(play: Play) -> None:
    """Nothing happens."""
    with play.deployment.worker(launch=play.launch) as worker:
        play.settle(worker)
        assert worker.stop() == 0, worker.tail()


def taken_and_given_back(play: Play) -> None:
    """A second worker takes partitions over, answers, and leaves: they come back to the first."""
    with play.deployment.worker("worker-0", launch=play.launch) as first:
        play.settle(first)
        with play.deployment.worker("worker-1", launch=play.launch) as second:
            until(lambda: second.log.exists() and "restored" in second.tail(), "its partitions", first, second)
            play.more(seed=2)
            play.settle(first, second)
            assert second.stop() == 0, second.tail()
        play.more(seed=3)
        play.settle(first)
        assert first.stop() == 0, first.tail()


def aborted(play: Play) -> None:
    """The output topic takes nothing for a moment: transactions are aborted, and their work is done again."""
    cluster, topic = play.deployment.cluster, play.deployment.output_topic
    with play.deployment.worker(launch=play.launch) as worker:
        play.settle(worker)
        limit_messages(cluster, topic, 100)
        seeds = itertools.count(2)

        def refused() -> bool:
            """The broker takes a moment to know of its new limit."""
            play.more(next(seeds), 1)  # so little that the refusal comes with the commit, not between two polls
            return "aborted" in worker.log.read_text(errors="replace")

        until(refused, "an aborted transaction", worker, within_s=WITHIN_S)
        limit_messages(cluster, topic, 1_000_000)
        play.more(next(seeds))  # a worker that takes the aborted work for done commits it with the next
        play.settle(worker)
        assert worker.stop() == 0, worker.tail()


Scenario = Callable[[Play], None]
# Where a bug is provoked, and the laws of which at least one must name it.
CAUGHT: dict[str, tuple[Scenario, set[str]]] = {
    "replay-published": (killed, {"doubled"}),
    "commits-position": (killed, {"missing", "premature"}),
    "checkpoint-before-commit": (killed, {"ahead"}),
    "offsets-outside-transaction": (aborted, {"missing"}),
    "reset-lost": (quiet, {"misattributed"}),
    "states-swapped": (quiet, {"inexact"}),
    "wrong-row-freed": (quiet, {"misattributed"}),
    "state-kept-on-revoke": (taken_and_given_back, {"doubled"}),
    "memory-kept-after-abort": (aborted, {"missing"}),
}
SCENARIOS: dict[Scenario, list[str]] = {}
for _name, (_scenario, _) in CAUGHT.items():
    SCENARIOS.setdefault(_scenario, [UNDAMAGED]).append(_name)

Outcomes = Callable[[Scenario, str], list[Violation]]


@pytest.fixture(scope="module")
def outcomes(kafka: TestCluster, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """Violations by worker version; a scenario is played when it is first asked for."""
    directory = tmp_path_factory.mktemp("mutants")
    topic = kafka.topic("samples")  # of all that publish nothing more
    inputs = publish(kafka, topic, RECORDS, STREAMS)
    one_by_one = threading.Lock()
    with Nursery(directory) as nursery:

        def spawn(command: Sequence[str | Path], log: Path) -> Process:
            with one_by_one:  # the nursery answers one starter at a time
                return nursery.start(command, log)

        def play(scenario: Scenario, name: str) -> list[Violation]:
            """Again when a bug did no harm: whether one that lies between two commits does is a matter of moments."""
            for attempt in range(ATTEMPTS):
                found = play_once(scenario, name, attempt)
                if name == UNDAMAGED or CAUGHT[name][1] & {violation.law for violation in found}:
                    break
            return found

        def play_once(scenario: Scenario, name: str, attempt: int) -> list[Violation]:
            place = directory / f"{scenario.__name__}-{name}-{attempt}"
            place.mkdir()
            shared = scenario is quiet
            deployment = Deployment.create(kafka, artifact, place, *FLAGS, input_topic=topic if shared else None)
            deployment.spawn = spawn
            launch = () if name == UNDAMAGED else (sys.executable, "-m", "tests.chaos.mutants", name)
            own = list(inputs) if shared else publish(kafka, deployment.input_topic, RECORDS, STREAMS)
            with Watch(deployment) as watch:
                scenario(Play(deployment, launch, watch, own))
            return hold(deployment, own, watch=watch)

        with ThreadPoolExecutor(AT_ONCE) as pool:

            @cache
            def played(scenario: Scenario) -> dict[str, Future[list[Violation]]]:
                return {name: pool.submit(play, scenario, name) for name in SCENARIOS[scenario]}

            yield lambda scenario, name: played(scenario)[name].result()


def test_every_seeded_bug_has_a_scenario() -> None:
    assert CAUGHT.keys() == MUTANTS.keys()


@pytest.mark.parametrize("name", CAUGHT)
def test_a_worker_with_a_seeded_bug_is_caught(outcomes: Outcomes, name: str) -> None:
    scenario, laws = CAUGHT[name]
    found = {violation.law for violation in outcomes(scenario, name)}
    assert found & laws, f"found {found or 'nothing'}, expected one of {laws}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_undamaged_worker_breaks_no_law_where_the_others_do(outcomes: Outcomes, scenario: Scenario) -> None:
    assert outcomes(scenario, UNDAMAGED) == []
