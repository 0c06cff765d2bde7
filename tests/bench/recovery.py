"""How long the streams of a worker are silent when it dies, or is restarted on purpose, and what the time is made of.

    python -m tests.bench.recovery [--streams 1000000] [--rate 2000] [--case NAME ...]

Every case begins with all streams known and saved, samples coming at a steady rate, and a reader of committed
probabilities that notes when each input partition was last answered. Silence is the longest gap between two answers
of a partition that the worker owned.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from tests.brokers.choice import choose, real_broker
from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.deployment import FEATURES, Deployment, until

PARTITIONS = 4
VALUE = b'{"features":[0.25,-0.5,1.0]}'
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Case:
    """What happens to one of several workers.

    Attributes:
        workers: that run before.
        planned: SIGTERM instead of kill -9.
        restart: what becomes of it: started again "after" its end, its successor is ready "before" it, or "never".
        flags: of all workers.
    """

    workers: int
    planned: bool
    restart: str
    flags: tuple[str, ...] = ()


def _session(seconds: int) -> tuple[str, ...]:
    return ("--kafka", f"session.timeout.ms={seconds * 1000}", "--kafka", "heartbeat.interval.ms=500")


CASES = {
    "kill-1": Case(1, False, "after", _session(10)),
    "kill-1-static": Case(1, False, "after", (*_session(10), "--kafka", "group.instance.id=worker-0")),
    "kill-2": Case(2, False, "never", _session(10)),
    "kill-4": Case(4, False, "never", _session(10)),
    "kill-2-session-3s": Case(2, False, "never", _session(3)),
    "kill-2-kip-848": Case(2, False, "never", ("--kafka", "group.protocol=consumer")),
    "planned-1": Case(1, True, "after", _session(10)),
    "planned-1-surge": Case(1, True, "before", _session(10)),
    "planned-2": Case(2, True, "never", _session(10)),
    "planned-4": Case(4, True, "never", _session(10)),
}


@dataclass(frozen=True)
class Lost:
    """Seconds lost by the partition that was silent for longest.

    Attributes:
        silence_s: between two committed answers.
        detection_s: from the last answer until a new owner has the partition.
        load_s: from there until its state is in memory.
        answer_s: from there until its first committed answer: replay, step, transaction.
    """

    silence_s: float
    detection_s: float
    load_s: float
    answer_s: float


class Answers:
    """When each input partition was answered, as a read_committed reader sees it."""

    def __init__(self, cluster: TestCluster, topic: str) -> None:
        self.times: dict[int, list[float]] = {partition: [] for partition in range(PARTITIONS)}
        own = {"group.id": cluster.unique("reader"), "isolation.level": "read_committed", "fetch.wait.max.ms": "20"}
        self._consumer = Consumer(cluster.conf | own)
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=20)[1]
        self._consumer.assign(places)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._closing.is_set():
            messages = self._consumer.consume(1000, 0.01)
            now = time.time()
            for message in messages:
                if message.error() is None:
                    self.times[json.loads(message.value())["source"][0]].append(now)


@contextmanager
def steady(cluster: TestCluster, topic: str, streams: int, rate: float) -> Iterator[None]:
    """Samples of all streams in turn, `rate` a second, until the context ends."""
    closing = threading.Event()

    def send() -> None:
        producer = Producer(cluster.conf | {"linger.ms": "1", "partitioner": "murmur2_random"})
        begun, sent = time.monotonic(), 0
        while not closing.wait(0.005):
            while sent < (time.monotonic() - begun) * rate:
                producer.produce(topic, VALUE, b"stream-%d" % (sent * 7919 % streams))
                sent += 1
            producer.poll(0)
        producer.flush(20)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()


def preload(cluster: TestCluster, topic: str, streams: int) -> None:
    """One sample of every stream."""
    producer = Producer(
        cluster.conf | {"linger.ms": "50", "partitioner": "murmur2_random", "queue.buffering.max.messages": "200000"}
    )
    for number in range(streams):
        while True:
            try:
                producer.produce(topic, VALUE, b"stream-%d" % number)
            except BufferError:
                producer.poll(0.05)
            else:
                break
    producer.flush(60)


def events(worker: Process) -> list[dict[str, Any]]:
    """The worker's log so far, with `at` as seconds since 1970."""
    found = []
    for line in worker.log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            event = json.loads(line)
            event["at"] = datetime.fromisoformat(event["timestamp"]).timestamp()
            found.append(event)
    return found


def measure(cluster: TestCluster, artifact: Path, case: Case, streams: int, rate: float, directory: Path) -> Lost:
    """Run one case on a deployment of its own."""
    flags = ("--log-format", "json", "--checkpoint-interval-s", "3600", *case.flags)
    deployment = Deployment.create(cluster, artifact, directory, *flags)
    preload(cluster, deployment.input_topic, streams)
    with ExitStack() as stack:

        def start(name: str) -> Process:
            worker = deployment.start_worker(name)
            stack.callback(worker.stop)
            return worker

        def at_rest() -> bool:
            ends = Consumer(cluster.conf | {"group.id": "ends"})
            places = [TopicPartition(deployment.input_topic, partition) for partition in range(PARTITIONS)]
            known = [ends.get_watermark_offsets(place, timeout=20)[1] for place in places]
            ends.close()
            return deployment.committed() == known

        # The first worker answers the backlog and saves it as it leaves; those of the case begin with that.
        first = deployment.start_worker("worker-0")
        until(at_rest, "the backlog to be answered", first, within_s=PATIENCE_S)
        assert first.stop(60) == 0, first.tail()
        victim, *others = workers = [start(f"worker-{number}") for number in range(case.workers)]
        answers = Answers(cluster, deployment.output_topic)
        stack.callback(answers.close)
        stack.enter_context(steady(cluster, deployment.input_topic, streams, rate))
        until(lambda: all(owned(workers)), "every worker to have partitions", *workers, within_s=PATIENCE_S)
        until(lambda: all(answers.times.values()), "every partition to be answered", *workers, within_s=PATIENCE_S)
        time.sleep(3.0)  # at a steady pace
        (theirs, *_) = owned(workers)
        successors = list(others)
        if case.restart == "before":
            successors.append(start("successor"))
            until(lambda: bool(owned(successors)[-1]), "the successor to have partitions", within_s=PATIENCE_S)
            theirs = set(range(PARTITIONS))  # some went to the successor already: theirs is the silence of the joining
        begun = time.time()
        if case.planned:
            victim.terminate()
            victim.wait(60)
        else:
            victim.kill()
        if case.restart == "after":
            successors.append(start("worker-0"))
        until(
            lambda: all(
                answers.times[p][-1] > begun + 1.0 and any(p in held for held in owned(successors)) for p in theirs
            ),
            "every partition to be answered again",
            *successors,
            within_s=PATIENCE_S,
        )
        time.sleep(1.0)
        return max((_lost(answers.times[p], successors, p, begun) for p in theirs), key=lambda lost: lost.silence_s)


def owned(workers: Sequence[Process]) -> list[set[int]]:
    """The partitions of each worker, by its log."""
    found = []
    for worker in workers:
        held: set[int] = set()
        for event in events(worker):
            if event["event"] == "restored":
                held.add(event["partition"])
            elif event["event"] in ("revoked", "lost"):
                held -= set(event["partitions"])
        found.append(held)
    return found


def _lost(times: list[float], workers: Sequence[Process], partition: int, begun: float) -> Lost:
    gaps = [(after - before, before, after) for before, after in itertools.pairwise(times) if after > begun]
    silence, last, back = max(gaps)
    logs = [event for worker in workers for event in events(worker) if last < event["at"] < back]
    assigned = [event["at"] for event in logs if event["event"] == "assigned" and partition in event["partitions"]]
    restored = [event["at"] for event in logs if event["event"] == "restored" and partition == event["partition"]]
    if not assigned or not restored:  # silent for another reason than a change of owners
        return Lost(silence, 0.0, 0.0, 0.0)
    return Lost(silence, assigned[-1] - last, restored[-1] - assigned[-1], back - restored[-1])


def small_artifact(directory: Path) -> Path:
    """An LSTM(32)-LSTM(16)-LSTM(8) with random weights: 112 numbers of state a stream."""
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    from worker.artifact import write_artifact

    keras.utils.set_random_seed(7)
    recurrent = [keras.layers.LSTM(units, return_sequences=True) for units in (32, 16, 8)]
    layers = [keras.layers.Input((None, len(FEATURES))), *recurrent, keras.layers.Dense(1, activation="sigmoid")]
    write_artifact(keras.Sequential(layers), directory, features=FEATURES, classes=("positive",))
    return directory


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row for every case."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recovery", description=__doc__)
    parser.add_argument("--streams", type=int, default=100_000, help="live streams of the four partitions together")
    parser.add_argument("--rate", type=float, default=2_000, help="samples a second")
    parser.add_argument("--case", action="append", choices=CASES, help="only this; may be given several times")
    given = parser.parse_args(argv)
    if choose().kind == "none":
        print(choose().words, file=sys.stderr)
        return 1
    console = Console()
    table = Table("case", "silence s", "until assigned", "load", "first answer", title=f"{given.streams:,} streams")
    with (
        tempfile.TemporaryDirectory(prefix="cellstream-recovery-") as root,
        real_broker(Path(root) / "kafka") as servers,
    ):
        artifact = small_artifact(Path(root) / "artifact")
        for name in given.case or CASES:
            with console.status(name):
                directory = Path(root) / name
                directory.mkdir()
                cluster = TestCluster("kafka", servers)
                lost = measure(cluster, artifact, CASES[name], given.streams, given.rate, directory)
            table.add_row(name, *(f"{seconds:.2f}" for seconds in astuple(lost)))
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
