"""Samples of many interleaved streams with every kind of end marker, published and remembered as the checker wants."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from confluent_kafka import KafkaError, Message, Producer

from tests.brokers.fixtures import TestCluster
from tests.chaos.checker import Input

START_MS = 1_700_000_000_000


def records(count: int, streams: int, seed: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Kinds ("sample", "last" or "end") and records; each stream's sequences have 1 to about 100 samples."""
    random = Random(seed)
    left = {f"stream-{number}": random.randint(1, 100) for number in range(streams)}
    names = list(left)
    for number in range(count):
        stream = random.choice(names)
        common: dict[str, object] = {"key": stream.encode(), "timestamp": START_MS + number}
        if left[stream] == 0:  # ended without a sample, by one marker or the other
            left[stream] = random.randint(1, 100)
            by_header: dict[str, object] = {"value": b"", "headers": [("end-of-sequence", b"")]}
            yield "end", common | (by_header if random.random() < 0.5 else {"value": None})
            continue
        left[stream] -= 1
        features = f"{random.gauss(0, 1):.4f},{random.gauss(0, 1):.4f},{random.gauss(0, 1):.4f}"
        last = left[stream] == 0 and random.random() < 0.5
        if last:
            left[stream] = random.randint(1, 100)
        marker = ',"end_of_sequence":true' if last else ""
        yield "last" if last else "sample", common | {"value": f'{{"features":[{features}]{marker}}}'.encode()}


def publish(cluster: TestCluster, topic: str, count: int, streams: int = 300, seed: int = 1) -> list[Input]:
    """Publish `count` records and return them with their coordinates, each partition in offset order."""
    producer = Producer(cluster.conf | {"linger.ms": "20", "queue.buffering.max.messages": str(count + 1)})
    published: list[Input] = []

    def delivered(kind: str) -> object:
        def note(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            place = (message.partition(), message.offset(), message.key())
            published.append(Input(*place, is_sample=kind != "end", is_end=kind != "sample"))

        return note

    notes = {kind: delivered(kind) for kind in ("sample", "last", "end")}
    for kind, record in records(count, streams, seed):
        producer.produce(topic, on_delivery=notes[kind], **record)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert len(published) == count
    return sorted(published, key=lambda record: (record.partition, record.offset))
