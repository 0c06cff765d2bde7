"""A deployment for tests: topics, an artifact, checkpoints, `cellstream run` as a process, and readers of its topics.

Everything goes through what a user has, the command line and the topics; nothing here looks into the worker.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker.reading import Reader, committed_offsets, output, read_all

FEATURES = ("x", "y", "z")
# A killed member is missed soon. The embedded broker lets a new group wait 3 s: a shorter session ends meanwhile.
SESSION_TIMEOUT_MS = {"kafka": "2000", "embedded": "4500"}
STARTUP_S = 120.0

__all__ = [
    "FEATURES",
    "Deployment",
    "Reader",
    "artifact",
    "beside",
    "limit_messages",
    "make_artifact",
    "output",
    "read_all",
    "send",
    "until",
    "until_read",
]


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
        return committed_offsets(self.cluster, self.group_id, self.input_topic, partitions)


def until_read(reader: Reader, count: int, *workers: Process, within_s: float = STARTUP_S) -> None:
    """Wait until a reader has that many records; see `until`."""
    until(lambda: len(reader) >= count, f"{count} records", *workers, within_s=within_s)


def send(producer: Producer, topic: str, **record: object) -> Callable[[], tuple[int, int]]:
    """Produce one record and return a function that gives its partition and offset once it was flushed."""
    place: list[tuple[int, int]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        place.append((message.partition(), message.offset()))

    producer.produce(topic, on_delivery=delivered, **record)
    return lambda: place[0]


@contextmanager
def beside(work: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do something again and again in the background while the context lasts; what it raises, its end raises."""
    over = threading.Event()
    broken: list[BaseException] = []

    def go_on() -> None:
        try:
            while not over.wait(every_s):
                work()
        except BaseException as fault:  # noqa: BLE001  # raised where the context ends
            broken.append(fault)

    thread = threading.Thread(target=go_on, name="beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if broken:
        raise broken[0]


def limit_messages(cluster: TestCluster, topic: str, most_bytes: int) -> None:
    """Let the broker refuse larger batches of a topic from now on."""
    entry = ConfigEntry("max.message.bytes", str(most_bytes), incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient(dict(cluster.conf))
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result()


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
