"""A deployment for tests: topics, an artifact, checkpoints, `cellstream run` as a process, and readers of its topics.

Everything goes through what a user has, the command line and the topics; nothing here looks into the worker.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Output

FEATURES = ("x", "y", "z")
# A killed member is missed soon. The embedded broker lets a new group wait 3 s: a shorter session ends meanwhile.
SESSION_TIMEOUT_MS = {"kafka": "2000", "embedded": "4500"}
STARTUP_S = 60.0


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LSTM with random weights: wrong in every answer, and the same each time."""
    return make_artifact(tmp_path_factory.mktemp("model") / "artifact")


def make_artifact(directory: Path) -> Path:
    """Write the artifact of the tests into a directory that does not exist, and return it."""
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    from worker.artifact import write_artifact

    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((None, len(FEATURES))),
            keras.layers.LSTM(8, return_sequences=True, bias_initializer="random_normal"),
            keras.layers.Dense(1, activation="sigmoid", bias_initializer="random_normal"),
        ]
    )
    write_artifact(model, directory, features=FEATURES, classes=("positive",))
    return directory


@dataclass
class Deployment:
    """One group's topics and checkpoints on a broker, and the workers that were started on them."""

    cluster: TestCluster
    artifact: Path
    directory: Path
    input_topic: str
    output_topic: str
    dead_letter_topic: str
    group_id: str
    flags: tuple[str, ...] = ()
    spawn: Callable[[Sequence[str | Path], Path], Process] = Process  # a command and its log -> the running process
    _number: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def create(
        cls, cluster: TestCluster, artifact: Path, directory: Path, *flags: str, input_topic: str | None = None
    ) -> Deployment:
        """Make the topics, except an input that is there already.

        Args:
            cluster: to run on.
            artifact: to run.
            directory: empty; for checkpoints and logs.
            flags: of every worker.
            input_topic: of another deployment, to answer the same samples once more.
        """
        return cls(
            cluster,
            artifact,
            directory,
            input_topic or cluster.topic("samples"),
            cluster.topic("probabilities"),
            cluster.topic("dead-letters"),
            cluster.unique("group"),
            flags,
        )

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.directory / "checkpoints"

    def start_worker(self, instance_id: str = "worker-0", *flags: str, launch: Sequence[str | Path] = ()) -> Process:
        """Start `cellstream run`; a worker started again under its name is the same worker to Kafka.

        Args:
            instance_id: its name.
            flags: added to the deployment's.
            launch: what takes the place of the command `cellstream`, to start a worker with a failpoint or a mutation.
        """
        command: list[str | Path] = [*(launch or (Path(sys.executable).with_name("cellstream"),)), "run"]
        command += ["--bootstrap-servers", self.cluster.bootstrap_servers, "--group-id", self.group_id]
        command += ["--input-topic", self.input_topic, "--output-topic", self.output_topic]
        command += ["--dead-letter-topic", self.dead_letter_topic, "--instance-id", instance_id]
        command += ["--artifact", str(self.artifact), "--checkpoints", str(self.checkpoints), "--metrics-port", "0"]
        if "group.protocol=consumer" not in self.flags:  # there the broker sets both (KIP-848)
            command += ["--kafka", f"session.timeout.ms={SESSION_TIMEOUT_MS[self.cluster.kind]}"]
            command += ["--kafka", "heartbeat.interval.ms=300"]
        log = self.directory / f"{next(self._number):02d}-{instance_id}.log"
        return self.spawn([*command, "--log-format", "console", *self.flags, *flags], log)

    @contextmanager
    def worker(
        self, instance_id: str = "worker-0", *flags: str, launch: Sequence[str | Path] = ()
    ) -> Iterator[Process]:
        """A worker that is stopped at the end, whatever happens in between."""
        process = self.start_worker(instance_id, *flags, launch=launch)
        try:
            yield process
        finally:
            process.stop()

    def committed(self, partitions: int = 4) -> list[int]:
        """The group's committed offset of each input partition; -1001 where there is none."""
        asked = [TopicPartition(self.input_topic, partition) for partition in range(partitions)]
        consumer = Consumer(self.cluster.conf | {"group.id": self.group_id})
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    return [answer.offset for answer in consumer.committed(asked, timeout=20)]
                except KafkaException as fault:  # a broker that has just started is not the coordinator yet
                    if fault.args[0].code() != KafkaError.NOT_COORDINATOR or time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
        finally:
            consumer.close()


class Reader:
    """Reads a topic from its beginning in the background, committed records only, for as long as it is open."""

    def __init__(self, cluster: TestCluster, topic: str, partitions: int = 4) -> None:
        self.messages: list[Message] = []
        self._sources: set[tuple[int, int]] = set()
        self._parsed = 0
        self._consumer = Consumer(
            cluster.conf
            | {
                "group.id": cluster.unique("reader"),
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.auto.commit": "false",
                "fetch.wait.max.ms": "20",
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._consumer.close()

    def __len__(self) -> int:
        return len(self.messages)

    def sources(self) -> set[tuple[int, int]]:
        """Partitions and offsets of the input records that were answered so far."""
        for message in itertools.islice(self.messages, self._parsed, None):
            partition, offset = json.loads(message.value())["source"]
            self._sources.add((partition, offset))
            self._parsed += 1
        return self._sources

    def outputs(self) -> list[Output]:
        """What was read so far."""
        return [output(message) for message in self.messages]

    def _read(self) -> None:
        while not self._closing.is_set():
            for message in self._consumer.consume(1000, 0.02):
                error = message.error()
                # Until the broker is there, or there again, the client's own retries are all there is to do.
                if error is None:
                    self.messages.append(message)
                elif not error.retriable() and error.code() not in (
                    KafkaError._ALL_BROKERS_DOWN,
                    KafkaError._TRANSPORT,
                ):
                    raise AssertionError(f"reading failed: {error.str()}")


def until_read(reader: Reader, count: int, *workers: Process, within_s: float = STARTUP_S) -> None:
    """Wait until a reader has that many records; see `until`."""
    until(lambda: len(reader) >= count, f"{count} records", *workers, within_s=within_s)


def read_all(cluster: TestCluster, topic: str, partitions: int = 4) -> list[Message]:
    """All committed records of a topic at rest.

    Raises:
        AssertionError: a transaction is still open, so that records after it cannot be read.
    """
    consumer = Consumer(
        cluster.conf
        | {
            "group.id": cluster.unique("reader"),
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
            "enable.auto.commit": "false",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    messages: list[Message] = []
    ended: dict[int, int] = {}
    deadline = time.monotonic() + 60
    while len(ended) < partitions:
        assert time.monotonic() < deadline, f"{topic}: partitions {sorted(ended)} of {partitions} read within a minute"
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                messages.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended[message.partition()] = message.offset()
    for partition, offset in ended.items():
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
        assert offset == end, f"{topic}-{partition}: readable up to {offset} of {end}: a transaction is open"
    consumer.close()
    return messages


def output(message: Message) -> Output:
    """A client's message as the checker's value."""
    return Output(message.partition(), message.offset(), message.key(), message.value())


def send(producer: Producer, topic: str, **record: object) -> Callable[[], tuple[int, int]]:
    """Produce one record and return a function that gives its partition and offset once it was flushed."""
    place: list[tuple[int, int]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        place.append((message.partition(), message.offset()))

    producer.produce(topic, on_delivery=delivered, **record)
    return lambda: place[0]


def until(condition: Callable[[], bool], what: str, *workers: Process, within_s: float = STARTUP_S) -> None:
    """Wait for a condition while the workers live.

    Raises:
        AssertionError: a worker ended, or the time is over; with the end of each worker's log.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        ended = [worker for worker in workers if worker.returncode is not None]
        if ended or time.monotonic() > deadline:
            why = f"a worker ended with {ended[0].returncode}" if ended else f"not within {within_s:g} s"
            logs = "\n".join(f"--- {worker.log.name}\n{worker.tail()}" for worker in workers)
            raise AssertionError(f"waiting for {what}: {why}\n{logs}")
        time.sleep(0.01)
