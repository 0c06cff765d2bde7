"""A model of the experiments, served by a real worker from topic to topic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from tests.brokers.fixtures import TestCluster
from tests.deployment import Deployment, Reader, send, until_read

Floats = NDArray[np.float32]


def serve(kafka: TestCluster, artifact: Path, inputs: Floats, classes: Sequence[str], directory: Path) -> Floats:
    """Send streams interleaved, as they come in production, and collect what the worker says of every sample.

    Args:
        kafka: the broker.
        artifact: its directory.
        inputs: `(streams, timesteps, features)`.
        classes: the artifact's.
        directory: for the worker's files.

    Returns:
        `(streams, timesteps, classes)`; each answer came once.
    """
    streams, timesteps, _ = inputs.shape
    deployment = Deployment.create(kafka, artifact, directory, "--input-codec", "float32")
    producer = Producer(kafka.conf)
    for t in range(timesteps):
        for stream in range(streams):
            send(producer, deployment.input_topic, key=f"stream-{stream}", value=inputs[stream, t].tobytes())
    assert producer.flush(60) == 0
    said = np.full((streams, timesteps, len(classes)), np.nan, np.float32)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, streams * timesteps, worker)
        for message in reader.messages:
            event = json.loads(message.value())
            stream = int(event["stream_id"].removeprefix("stream-"))
            said[stream, event["timestep"]] = [event["probabilities"][name] for name in classes]
        assert worker.stop() == 0, worker.tail()
    assert len(reader) == streams * timesteps
    return said
