"""A worker on a topic whose objects somebody else has defined, in MessagePack both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.deployment import Deployment, Reader, until_read

START_MS = 1_700_000_000_000
SHAPE = (
    *("--input-codec", "msgpack", "--output-codec", "msgpack", "--missing", "zero"),
    *("--features-from", "$.payload.acc[0],$.payload.acc[1],$.temp", "--stream-id-from", "field:$.device.id"),
    *("--event-time-from", "$.at", "--timestep-from", "$.seq"),
)


@pytest.mark.slow
def test_samples_of_another_shape_are_answered_like_any(
    embedded: TestCluster,
    artifact: Path,
    tmp_path: Path,
    keras_says: Callable[[Sequence[Sequence[float]]], list[float]],
) -> None:
    deployment = Deployment.create(embedded, artifact, tmp_path, *SHAPE)
    samples = [[0.5, None, -1.25], [1, 2, 3], [None, 0.25, 1e-3]]
    producer = Producer(embedded.conf)
    for number, (x, y, z) in enumerate(samples):
        value = {
            "device": {"id": "pump"},
            "payload": {"acc": [x, y]},
            "temp": z,
            "seq": number,
            "at": START_MS + number,
        }
        producer.produce(deployment.input_topic, msgspec.msgpack.encode(value), b"gateway", partition=1, timestamp=1)
    producer.produce(deployment.input_topic, b"\x81", b"gateway", partition=1)
    assert producer.flush(60) == 0
    with (
        Reader(embedded, deployment.output_topic) as outputs,
        Reader(embedded, deployment.dead_letter_topic) as dead_letters,
        deployment.worker() as worker,
    ):
        until_read(outputs, len(samples), worker)
        until_read(dead_letters, 1, worker)
        assert worker.stop() == 0, worker.tail()
        events = [msgspec.msgpack.decode(message.value()) for message in outputs.messages]
        assert {message.key() for message in outputs.messages} == {b"pump"}
        assert [dict(message.headers())["cellstream.reason"] for message in dead_letters.messages] == [b"not_msgpack"]
    expected = keras_says([[number or 0.0 for number in sample] for sample in samples])
    assert [event["probability"] for event in events] == pytest.approx(expected, abs=1e-6)
    assert [(event["stream_id"], event["timestep"]) for event in events] == [("pump", 0), ("pump", 1), ("pump", 2)]
    assert [event["timestamp"] for event in events] == [START_MS, START_MS + 1, START_MS + 2]
