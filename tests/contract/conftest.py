"""One running worker per broker and configuration, shared by the tests of a module, each on streams of its own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message, Producer

from tests.brokers.fixtures import BROKERS
from tests.deployment import Deployment, Reader, until

MAX_RECORD_BYTES = 50_000


class Service:
    """A worker that runs, and its topics."""

    def __init__(self, deployment: Deployment, outputs: Reader, dead_letters: Reader, worker: Any) -> None:
        self.deployment = deployment
        self._outputs = outputs
        self._dead_letters = dead_letters
        self._worker = worker
        self._producer = Producer(deployment.cluster.conf | {"linger.ms": "0"})

    def stream(self, name: str = "stream") -> str:
        """A stream ID of this test alone."""
        return f"{name}-{uuid.uuid4().hex[:8]}"

    def send(self, partition: int = 0, **record: Any) -> int:
        """Produce one record and return its offset."""
        place: list[int] = []
        self._producer.produce(
            self.deployment.input_topic,
            partition=partition,
            on_delivery=lambda error, message: place.append(-1 if error else message.offset()),
            **record,
        )
        assert self._producer.flush(60) == 0
        assert place[0] >= 0
        return place[0]

    def sample(self, stream: str, features: Sequence[float], partition: int = 0, **fields: Any) -> int:
        """Produce one JSON sample and return its offset."""
        value = json.dumps({"features": list(features), **fields}).encode()
        return self.send(partition, key=stream.encode(), value=value)

    def events(self, stream: str, count: int) -> list[dict[str, Any]]:
        """The stream's events, once there are as many as expected; all of them, if there are more."""
        return [json.loads(message.value()) for message in self.messages(stream, count)]

    def messages(self, stream: str, count: int) -> list[Message]:
        """The stream's output records; see `events`."""
        return self._keyed(self._outputs, stream.encode(), count)

    def dead_letters(self, key: bytes | None, count: int) -> list[Message]:
        """The dead letters under a key; see `events`."""
        return self._keyed(self._dead_letters, key, count)

    def _keyed(self, reader: Reader, key: bytes | None, count: int) -> list[Message]:
        def found() -> list[Message]:
            return [message for message in list(reader.messages) if message.key() == key]

        until(lambda: len(found()) >= count, f"{count} records of {key!r}", self._worker)
        return found()


@contextmanager
def serving(deployment: Deployment) -> Iterator[Service]:
    """Run a worker and read its topics."""
    cluster = deployment.cluster
    with (
        Reader(cluster, deployment.output_topic) as outputs,
        Reader(cluster, deployment.dead_letter_topic) as dead_letters,
        deployment.worker() as worker,
    ):
        service = Service(deployment, outputs, dead_letters, worker)
        yield service
        assert worker.returncode is None, worker.tail()
        assert worker.stop() == 0, worker.tail()


@pytest.fixture(scope="module", params=BROKERS)
def service(
    request: pytest.FixtureRequest, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A worker with default settings, except that it refuses records which every broker accepts."""
    cluster = request.getfixturevalue(request.param)
    flags = ("--max-record-bytes", str(MAX_RECORD_BYTES))
    with serving(Deployment.create(cluster, artifact, tmp_path_factory.mktemp("service"), *flags)) as running:
        yield running


@pytest.fixture(scope="module", params=BROKERS)
def fixed_service(
    request: pytest.FixtureRequest, artifact: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A worker with raw vectors, stream IDs in a header, sequences of three samples, and closing events."""
    cluster = request.getfixturevalue(request.param)
    flags = ("--input-codec", "float32", "--stream-id-from", "header:device", "--sequence-length", "3")
    directory = tmp_path_factory.mktemp("fixed")
    with serving(Deployment.create(cluster, artifact, directory, *flags, "--closing-events")) as running:
        yield running


@pytest.fixture(scope="session")
def keras_says(artifact: Path) -> Callable[[Sequence[Sequence[float]]], list[float]]:
    """What the Keras model says after each sample of a sequence."""
    import keras

    model = keras.saving.load_model(artifact / "model.keras")

    def say(samples: Sequence[Sequence[float]]) -> list[float]:
        inputs = np.asarray(samples, np.float32)[None]  # (1, time, features)
        return [float(p) for p in np.asarray(model(inputs))[0, :, 0]]

    return say
