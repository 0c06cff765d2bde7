"""3e on a real Apache Kafka: the worker says every value again, one sample later, from topic to topic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.deployment import Deployment, Reader, send, until_read
from training.experiments.echo import TIMESTEPS, encode, fresh
from training.experiments.echo_extensions import names, streamable
from training.experiments.experiment import Setup
from worker.artifact import write_artifact

SEED, STREAMS = 0, 12


@pytest.mark.broker
@pytest.mark.slow
def test_the_worker_echoes_from_a_topic_as_keras_would(kafka: TestCluster, tmp_path: Path) -> None:
    model, alphabet = streamable(Setup(quick=True, seed=SEED, directory=tmp_path))
    features, classes = names(alphabet)
    artifact = write_artifact(model, tmp_path / "artifact", features=features, classes=classes)
    values = fresh(STREAMS, alphabet, SEED + 9)
    inputs = encode(values, alphabet)  # (streams, timesteps, alphabet)
    deployment = Deployment.create(kafka, tmp_path / "artifact", tmp_path, "--input-codec", "float32")
    producer = Producer(kafka.conf)
    for t in range(TIMESTEPS):  # the streams interleaved, as they come in production
        for stream in range(STREAMS):
            send(producer, deployment.input_topic, key=f"echo-{stream}", value=inputs[stream, t].tobytes())
    assert producer.flush(60) == 0
    said = np.full((STREAMS, TIMESTEPS, alphabet), np.nan, np.float32)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, STREAMS * TIMESTEPS, worker)
        for message in reader.messages:
            event = json.loads(message.value())
            stream = int(event["stream_id"].removeprefix("echo-"))
            said[stream, event["timestep"]] = [event["probabilities"][name] for name in classes]
        assert worker.stop() == 0, worker.tail()
    assert len(reader) == STREAMS * TIMESTEPS
    np.testing.assert_allclose(said, model.predict(inputs, verbose=0), rtol=0, atol=artifact.manifest.parity.tolerance)
    assert (said[:, 1:].argmax(axis=-1) == values[:, :-1]).mean() >= 0.99, f"seed {SEED}"
