"""What a worker remembers of a stream outlives it: a killed one's successor writes what an undisturbed one writes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.deployment import Deployment, Reader, until, until_read
from worker.artifact import write_artifact
from worker.decision import DecisionRule

STREAMS, TIMESTEPS = 12, 40
FLAGS = (
    *("--missing", "last", "--on-duplicate", "drop", "--on-gap", "accept", "--cloudevents-source", "/pumps"),
    *("--checkpoint-interval-records", "60", "--commit-interval-ms", "20"),
)
KINDS: dict[str, dict[str, Any]] = {
    "decisions": {"decision": DecisionRule(("no", "yes"), (0, 5), ((0.9, 0.9), (0.51, 0.51)))},
    "16 bits": {"state_dtype": "float16"},
}


def remembering(directory: Path, **kind: Any) -> Path:
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((None, 2)),
            layers.LSTM(6, return_sequences=True, bias_initializer="random_normal"),
            layers.Dense(1, activation="sigmoid", bias_initializer="random_normal"),
        ]
    )
    write_artifact(model, directory, features=("x", "y"), classes=("yes",), **kind)
    return directory


def samples() -> list[tuple[bytes, bytes]]:
    """Streams in turn; some numbers are missing, some records come twice, some never."""
    chance = random.Random(3)
    found = []
    for timestep in range(TIMESTEPS):
        for stream in range(STREAMS):
            features = [None if chance.random() < 0.2 else chance.uniform(-2, 2) for _ in range(2)]
            value = msgspec.json.encode({"features": features, "timestep": timestep})
            found += [(b"pump-%d" % stream, value)] * chance.choice((0, 1, 1, 1, 1, 1, 1, 2))
    return found


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_workers_successor_writes_what_an_undisturbed_worker_writes(
    kafka: TestCluster, tmp_path: Path, kind: str
) -> None:
    artifact = remembering(tmp_path / "artifact", **KINDS[kind])
    sent = samples()
    expected = len({(key, msgspec.json.decode(value)["timestep"]) for key, value in sent})
    disturbed = Deployment.create(kafka, artifact, tmp_path / "disturbed", *FLAGS)
    steady = Deployment.create(kafka, artifact, tmp_path / "steady", *FLAGS, input_topic=disturbed.input_topic)
    for deployment in (disturbed, steady):
        deployment.directory.mkdir()
    producer = Producer(kafka.conf)

    def publish(records: list[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            producer.produce(disturbed.input_topic, value, key)
        assert producer.flush(60) == 0

    half = len(sent) // 2
    publish(sent[:half])
    with Reader(kafka, disturbed.output_topic) as outputs, disturbed.worker() as worker:
        until_read(outputs, expected // 4, worker)
        until(lambda: any(disturbed.checkpoints.rglob("*.h5")), "a checkpoint", worker)
        assert worker.kill() == -9
        publish(sent[half:])
        with disturbed.worker() as successor:
            until_read(outputs, expected, successor)
            assert successor.stop() == 0, successor.tail()
        found = seen(outputs)
    with Reader(kafka, steady.output_topic) as outputs, steady.worker() as worker:
        until_read(outputs, expected, worker)
        assert worker.stop() == 0, worker.tail()
        assert seen(outputs) == found

    events = [msgspec.json.decode(value) for _, value, _ in found]
    assert len(events) == expected == len({dict(headers)["ce_id"] for *_, headers in found})
    decided = Counter(event["sequence"] for event in events if "decision" in event)
    assert decided == (Counter({event["sequence"]: 1 for event in events}) if kind == "decisions" else Counter())


def seen(outputs: Reader) -> list[tuple[Any, ...]]:
    return sorted((message.key(), message.value(), tuple(message.headers())) for message in outputs.messages)
