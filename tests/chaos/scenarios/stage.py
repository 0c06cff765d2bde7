"""One deployment under test: samples go in, workers come and go, and at the end everything is held to the laws."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.brokers.process import Process
from tests.chaos import traffic
from tests.chaos.checker import Input, Reference, Violation, Watch, hold
from tests.chaos.failpoints import launch
from tests.deployment import Deployment, beside, until

PATIENCE_S = 120.0
STREAMS = 60
PARTITIONS = 4
DECISIVE = ("--max-record-bytes", "--max-streams-per-partition", "--sequence-length", "--idle-timeout-s")


class Stage:
    """A deployment, its traffic and its workers.

    Args:
        deployment: with topics and nothing else.
        random: decides what is left to chance.
        faults: counts what is done, by kind.
        watch_every_s: pause between two looks at offsets and checkpoints.
    """

    def __init__(
        self, deployment: Deployment, random: Random, faults: Counter[str], watch_every_s: float = 0.02
    ) -> None:
        self.deployment = deployment
        self.random = random
        self.faults = faults
        self.inputs: list[Input] = []
        self.partitions = PARTITIONS
        self.begun_anew: dict[int, int] = {}
        self.mortal: set[str] = set()  # workers that may end by themselves
        self.workers: dict[str, Process] = {}
        self.former: list[Process] = []
        self.watch = Watch(deployment, watch_every_s)
        self._watch_closed = False
        self._seed = random.randrange(1 << 30)
        self._asking = Consumer(deployment.cluster.conf | {"group.id": deployment.group_id})

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_workers()
        self._close_watch()
        self._asking.close()

    def _close_watch(self) -> None:
        if not self._watch_closed:
            self._watch_closed = True
            self.watch.__exit__(None)

    # Traffic

    def publish(self, count: int, hostile: float = 0.0) -> int:
        """Publish samples; see `tests.chaos.traffic`. Returns how many records it were."""
        self._seed += 1
        published = traffic.publish(
            self.deployment.cluster, self.deployment.input_topic, count, STREAMS, self._seed, hostile
        )
        self.inputs += published
        return len(published)

    def flowing(self, records_s: int = 400, hostile: float = 0.0) -> AbstractContextManager[None]:
        """Publish at about this rate in the background for as long as the context lasts."""
        return beside(lambda: self.publish(records_s // 4, hostile), every_s=0.25)

    # Workers

    def start(self, name: str = "worker-0", *flags: str, launched: Sequence[str | Path] = ()) -> Process:
        """Start a worker."""
        assert name not in self.workers, f"{name} runs already"
        self.workers[name] = self.deployment.start_worker(name, *flags, launch=launched)
        return self.workers[name]

    def start_with_failpoint(self, spec: str, name: str = "worker-0", *flags: str) -> Process:
        """Start a worker that will kill itself."""
        return self.start(name, *flags, launched=launch(spec))

    def kill(self, name: str = "worker-0") -> None:
        """`kill -9`."""
        self.faults["kill -9"] += 1
        worker = self.leave(name)
        assert worker.returncode is None, f"{name} had ended with {worker.returncode}:\n{worker.tail()}"
        worker.kill()

    def stop(self, name: str = "worker-0") -> None:
        """SIGTERM, and an end in order; or at once, of a worker so young that it knows no SIGTERM yet."""
        self.faults["SIGTERM"] += 1
        worker = self.leave(name)
        code = worker.stop(timeout_s=60)
        young = code == -signal.SIGTERM and not has_started(worker)
        assert code == 0 or young, f"{name} ended with {code} after SIGTERM:\n{worker.tail()}"

    def dies(self, name: str = "worker-0", within_s: float = PATIENCE_S, kind: str = "failpoint") -> None:
        """Wait until a worker with a failpoint has killed itself."""
        worker = self.leave(name)
        try:
            code = worker.wait(within_s)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise AssertionError(f"the failpoint was never reached\n{worker.tail()}") from None
        assert code == -9, f"ended with {code}, expected to be killed by its failpoint:\n{worker.tail()}"
        self.faults[kind] += 1

    def ends(self, code: int, *words: str, name: str = "worker-0", within_s: float = PATIENCE_S) -> None:
        """A worker ends by itself with this exit code, and says why."""
        worker = self.leave(name)
        try:
            found = worker.wait(within_s)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise AssertionError(f"expected to end with {code}, and goes on:\n{worker.tail()}") from None
        said = " ".join(worker.tail(20_000).split())
        assert found == code, f"ended with {found}, expected {code}: {said}"
        assert all(word in said for word in words), f"expected {words}: {said}"

    def revive(self) -> None:
        """What a supervisor does: start again what has ended with 1, of those that may."""
        for name, worker in list(self.workers.items()):
            if name in self.mortal and worker.returncode is not None:
                self.ends(1, name=name)
                self.start(name)
                self.faults["worker gave up (exit 1)"] += 1

    def close_workers(self) -> None:
        """End what still runs, by force."""
        for name in list(self.workers):
            self.leave(name).kill()

    def leave(self, name: str) -> Process:
        """Take a worker out of those that should live; what becomes of it is for the caller."""
        worker = self.workers.pop(name)
        self.former.append(worker)
        return worker

    # Waiting

    @property
    def of_the_records(self) -> tuple[str, ...]:
        """Those of the deployment's flags that decide what the answers are."""
        pairs = zip(self.deployment.flags, self.deployment.flags[1:], strict=False)
        return tuple(part for pair in pairs if pair[0] in DECISIVE for part in pair)

    @property
    def answers(self) -> int:
        """Events that a concurrent reader has seen."""
        return len(self.watch)

    def until(self, condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
        """Wait for a condition while all workers live that are not mortal."""
        watched = [worker for name, worker in self.workers.items() if name not in self.mortal]
        try:
            until(condition, what, *watched, within_s=within_s)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\n{self.logs()}") from None

    def logs(self) -> str:
        """The end of each worker's log, with where it is now if it can tell."""
        for worker in self.workers.values():
            if worker.tells_where:
                worker.signal(signal.SIGUSR1)
        time.sleep(1)
        return "\n".join(f"--- {worker.log.name}\n{worker.tail(6000)}" for worker in self.workers.values())

    def progress(self, more: int = 1, within_s: float = PATIENCE_S) -> None:
        """Wait until so many more events were published; not for those that nobody has asked for."""
        wanted = self.answers + more
        self.until(lambda: self.answers >= wanted, f"{more} more answers", within_s)

    def supervised(self, more: int, within_s: float = PATIENCE_S) -> None:
        """Wait until so many more events were published, starting workers again that end with 1."""
        wanted = self.answers + more
        self.mortal.update(self.workers)
        self.until_supervised(lambda: self.answers >= wanted, f"{more} more answers", within_s)

    def until_supervised(self, condition: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
        """Wait for a condition; what is mortal and ends meanwhile is started again."""

        def reached() -> bool:
            if condition():
                return True
            self.revive()
            return False

        self.until(reached, what, within_s)

    def settle(self, within_s: float = PATIENCE_S) -> None:
        """Wait until everything published so far is answered and committed; what is mortal may end meanwhile."""
        self.until_supervised(self.settled, "everything published to be committed", within_s)

    def settled(self) -> bool:
        """Everything published so far is answered and committed."""
        return self._committed() == next_offsets(self.inputs, self.partitions)

    def _committed(self) -> list[int]:
        asked = [TopicPartition(self.deployment.input_topic, partition) for partition in range(self.partitions)]
        try:
            return [answer.offset for answer in self._asking.committed(asked, timeout=2)]
        except KafkaException:
            return []  # the broker is away, or has just come back: not yet

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted(self.deployment.checkpoints.rglob("*.h5"), key=lambda path: path.name)

    # The end

    def finish(self, *flags: str, within_s: float = PATIENCE_S, compare: bool = True, **holding: bool) -> None:
        """Answer what is left, stop all workers in order and hold everything to the laws.

        Args:
            flags: of the worker that is started when none runs.
            within_s: for answering.
            compare: with an undisturbed worker's answers to the same samples, byte by byte.
            holding: what is not to be held to the laws; see `hold`.

        Raises:
            AssertionError: a law is broken, or a worker did not end in order.
        """
        if not self.workers:
            self.start("worker-0", *flags)
        self.settle(within_s)
        for name, worker in self.workers.items():  # before that it knows no SIGTERM
            if name not in self.mortal:
                self.until(lambda worker=worker: has_started(worker), "the start")
        for name in list(self.workers):
            worker = self.leave(name)
            code = worker.stop(timeout_s=60)
            assert code == 0 or name in self.mortal, f"{name} ended with {code}:\n{worker.tail()}"
        violations = self.violations(self.undisturbed() if compare else None, **holding)
        assert not violations, f"{len(violations)} violations, first: {violations[:5]}"

    def violations(self, reference: Reference | None = None, **holding: bool) -> list[Violation]:
        """Hold what the topics and the store have now to the laws; no worker may run."""
        self._close_watch()
        return hold(
            self.deployment,
            self.inputs,
            watch=self.watch,
            reference=reference,
            anew=self.begun_anew,
            **holding,
        )

    def grown(self, partitions: int) -> None:
        """The input topic has so many partitions from now on."""
        self.partitions = self.watch.inputs = partitions

    def anew(self, offsets: dict[int, int]) -> None:
        """The operator has let all streams begin anew at these offsets of the partitions."""
        self.begun_anew = offsets

    def undisturbed(self) -> Reference:
        """What a worker leaves behind of the same samples when nobody disturbs it."""
        directory = self.deployment.directory / "undisturbed"
        directory.mkdir()
        quiet = Deployment.create(
            self.deployment.cluster,
            self.deployment.artifact,
            directory,
            *self.of_the_records,
            input_topic=self.deployment.input_topic,
        )
        quiet.spawn = self.deployment.spawn
        wanted = next_offsets(self.inputs, self.partitions)
        with quiet.worker("undisturbed") as worker:
            until(
                lambda: quiet.committed(self.partitions) == wanted,
                f"committed offsets {wanted}",
                worker,
                within_s=PATIENCE_S,
            )
            assert worker.stop() == 0, worker.tail()
        return Reference.of(quiet)


def has_started(worker: Process) -> bool:
    """Whether it has said so: from then on SIGTERM is an end in order."""
    return "started" in worker.log.read_text(errors="replace")


def next_offsets(inputs: Sequence[Input], partitions: int = PARTITIONS) -> list[int]:
    """What is committed when all records are answered: a worker commits where it begins, too, so there is no gap."""
    ends = dict.fromkeys(range(partitions), 0)
    for record in inputs:
        ends[record.partition] = max(ends[record.partition], record.offset + 1)
    return list(ends.values())
