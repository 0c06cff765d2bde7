"""A model of the experiments, served by a real worker from topic to topic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from tests.brokers.fixtures import TestCluster
from tests.deployment import Deployment, Reader, send, until_read

Floats = NDArray[np.float32]


def serve(
    kafka: TestCluster,
    artifact: Path,
    inputs: Floats,
    classes: Sequence[str],
    directory: Path,
    cuts: Sequence[Sequence[int]] | None = None,
) -> Floats:
    """Send streams interleaved, as they come in production, and collect what the worker says of every sample.

    Args:
        kafka: the broker.
        artifact: its directory.
        inputs: `(streams, timesteps, features)`.
        classes: the artifact's.
        directory: for the worker's files.
        cuts: for each stream, between which of its timesteps one record ends and the next begins; None for a record
            of each sample.

    Returns:
        `(streams, timesteps, classes)`; each answer came once.
    """
    streams, timesteps, _ = inputs.shape
    deployment = Deployment.create(kafka, artifact, directory, "--input-codec", "float32")
    producer = Producer(kafka.conf)
    chunks = [np.split(own, range(1, timesteps) if cuts is None else cuts[i]) for i, own in enumerate(inputs)]
    for moment in zip_longest(*chunks):
        for stream, chunk in enumerate(moment):
            if chunk is not None:
                send(producer, deployment.input_topic, key=f"stream-{stream}", value=chunk.tobytes())
    assert producer.flush(60) == 0
    said = np.full((streams, timesteps, len(classes)), np.nan, np.float32)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, streams * timesteps, worker)
        for message in reader.messages:
            event = json.loads(message.value())
            stream = int(event["stream_id"].removeprefix("stream-"))
            answer = event.get("probabilities") or {classes[0]: event["probability"]}
            said[stream, event["timestep"]] = [answer[name] for name in classes]
        assert worker.stop() == 0, worker.tail()
    assert len(reader) == streams * timesteps
    return said
