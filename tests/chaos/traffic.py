"""Samples of many interleaved streams with every kind of end marker, published and remembered as the checker wants."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from confluent_kafka import KafkaError, Message, Producer

from tests.brokers.fixtures import TestCluster
from tests.chaos.checker import Input

START_MS = 1_700_000_000_000
# What a producer that is broken or means harm sends; each must become a dead letter and leave its stream as it was.
HOSTILE: tuple[dict[str, object], ...] = (
    {"value": b"not json"},
    {"value": b""},
    {"value": b'{"features":[1,2]}'},
    {"value": b'{"features":[1,2,NaN]}'},
    {"value": b'{"features":[1,2,1e400]}'},
    {"value": b'{"features":[1,2,"3"]}'},
    {"value": b'{"features":[1,2,true]}'},
    {"value": b'{"features":{"x":1}}'},
    {"value": b"[[[1,2,3]]]"},
    {"value": b'{"features":[1,2,3],"timestep":"x"}'},
    {"value": b"[" * 5_000 + b"]" * 5_000},
    {"value": b'{"features":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}"},
    {"value": b'{"features":[' + b"1," * 20_000 + b"1]}"},
    {"value": b'{"features":[1,2,3],"note":"' + b"x" * 300_000 + b'"}'},
    {"value": b'{"features":[1,2,' + b"9" * 4_500 + b"]}"},
    {"value": b"\x00\xff\xfe" * 100},
    {"key": b"", "value": b'{"features":[1,2,3]}'},
    {"key": None, "value": b'{"features":[1,2,3]}'},
    {"key": b"\xff\xfe not UTF-8", "value": b'{"features":[1,2,3]}'},
    {"key": b"k" * 300, "value": b'{"features":[1,2,3]}'},
)


def records(count: int, streams: int, seed: int, hostile: float = 0.0) -> Iterator[tuple[str, dict[str, object]]]:
    """Kinds ("sample", "last", "end" or "hostile") and records; each stream's sequences have 1 to about 100 samples.

    Args:
        count: of records.
        streams: they belong to.
        seed: gives the same records again.
        hostile: share of records that must be refused.
    """
    random = Random(seed)
    left = {f"stream-{number}": random.randint(1, 100) for number in range(streams)}
    names = list(left)
    for number in range(count):
        stream = random.choice(names)
        common: dict[str, object] = {"key": stream.encode(), "timestamp": START_MS + number}
        if hostile and random.random() < hostile:
            yield "hostile", common | random.choice(HOSTILE)
            continue
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


def publish(
    cluster: TestCluster, topic: str, count: int, streams: int = 300, seed: int = 1, hostile: float = 0.0
) -> list[Input]:
    """Publish `count` records and return them with their coordinates, each partition in offset order.

    A broker that dies meanwhile is waited for, and what it had taken is not sent twice.
    """
    producer = Producer(
        cluster.conf | {"linger.ms": "20", "queue.buffering.max.messages": str(count + 1), "enable.idempotence": "true"}
    )
    published: list[Input] = []

    def delivered(kind: str) -> object:
        def note(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            place = (message.partition(), message.offset(), message.key() or b"")
            published.append(
                Input(*place, is_sample=kind in ("sample", "last"), is_end=kind in ("last", "end"))
                if kind != "hostile"
                else Input(*place, is_sample=False, refused=True)
            )

        return note

    notes = {kind: delivered(kind) for kind in ("sample", "last", "end", "hostile")}
    for kind, record in records(count, streams, seed, hostile):
        producer.produce(topic, on_delivery=notes[kind], **record)
        producer.poll(0)
    assert producer.flush(120) == 0
    assert len(published) == count
    return sorted(published, key=lambda record: (record.partition, record.offset))
