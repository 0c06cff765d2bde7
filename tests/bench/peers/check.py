"""Whether a peer answers rightly: its first events, held against cellstream's model of the same artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from worker.bench.contestant import Contestant
from worker.bench.race import Answer, answers
from worker.bench.stage import Stage
from worker.errors import FatalFault
from worker.streaming import StreamingModel

TOLERANCE = 1e-5
TIMEOUT_S = 30.0

Place = tuple[int, int]
Samples = dict[str, list[tuple[Place, NDArray[Any]]]]


def check(stage: Stage, peer: Contestant) -> float:
    """Compare a peer's answers to its first volley with the model's, and return the largest difference.

    Raises:
        FatalFault: an answer is missing, is another stream's or timestep's, or differs by more than `TOLERANCE`.
    """
    model = StreamingModel.load(stage.artifact.directory)
    found = answers(stage.settings, peer.settings["output_topic"], peer.first_volley)
    return compare(model, read_samples(stage, peer.settings["input_topic"], peer.first_volley), found)


def compare(model: StreamingModel, samples: Samples, found: Mapping[Place, Answer]) -> float:
    """The largest difference between answers and the model run over each stream's whole sequence.

    Args:
        model: with one probability.
        samples: stream -> coordinate and features of its samples, in order.
        found: coordinate -> stream, timestep and probability.

    Raises:
        FatalFault: as `check`.
    """
    largest = 0.0
    for stream, rows in samples.items():
        expected = model.run(np.stack([features for _, features in rows]))[:, 0]
        for timestep, (place, _) in enumerate(rows):
            said = found.get(place)
            if said is None or said[:2] != (stream, timestep):
                raise FatalFault(f"sample {place}: expected {stream} {timestep}, the peer said {said}")
            difference = abs(said[2] - float(expected[timestep]))
            if not difference <= TOLERANCE:
                raise FatalFault(f"sample {place}: expected {expected[timestep]} +- {TOLERANCE}, the peer said {said}")
            largest = max(largest, difference)
    return largest


def read_samples(stage: Stage, topic: str, ends: Mapping[int, int]) -> Samples:
    """Stream -> coordinate and features of its samples, in order, below `ends`.

    Raises:
        FatalFault: they cannot be read.
    """
    reader = Consumer({**stage.settings.kafka_conf(), "group.id": topic, "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, partition, 0) for partition in ends])
    found: Samples = {}
    left = sum(ends.values())
    deadline = time.monotonic() + TIMEOUT_S
    while left and time.monotonic() < deadline:
        for message in reader.consume(1_000, 0.2):
            place = (message.partition(), message.offset())
            if place[1] < ends[place[0]]:
                features = np.array(json.loads(message.value())["features"], np.float32)
                found.setdefault(message.key().decode(), []).append((place, features))
                left -= 1
    reader.close()
    if left:
        raise FatalFault(f"topic {topic}: {left} samples could not be read")
    return found
