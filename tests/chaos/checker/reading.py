"""Topics as a consumer that trusts committed records only sees them: while they grow, and at rest."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.chaos.checker.records import DeadLetter, Output

if TYPE_CHECKING:
    from tests.brokers.fixtures import TestCluster

Answer = TypeVar("Answer")
PATIENCE_S = 90.0  # of a question to a broker that has just come back, or a machine that has other things to do
# Until the broker is there, or there again, the client's own retries are all there is to do.
PASSING = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)


class Reader:
    """Reads a topic from its beginning in the background, committed records only, for as long as it is open."""

    def __init__(self, cluster: TestCluster, topic: str, partitions: int = 4) -> None:
        self.messages: list[Message] = []
        self.fault: str | None = None
        self._sources: set[tuple[int, int]] = set()
        self._parsed = 0
        self._consumer = Consumer(
            cluster.conf
            | {
                "group.id": cluster.unique("reader"),
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.auto.commit": "false",
                "fetch.wait.max.ms": "20",
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._consumer.close()
        assert kind is not None or self.fault is None, f"reading failed: {self.fault}"

    def __len__(self) -> int:
        return len(self.messages)

    def sources(self) -> set[tuple[int, int]]:
        """Partitions and offsets of the input records that were answered so far."""
        for message in itertools.islice(self.messages, self._parsed, None):
            partition, offset = json.loads(message.value())["source"]
            self._sources.add((partition, offset))
            self._parsed += 1
        return self._sources

    def outputs(self) -> list[Output]:
        """What was read so far."""
        return [output(message) for message in self.messages]

    def _read(self) -> None:
        while not self._closing.is_set():
            for message in self._consumer.consume(1000, 0.02):
                error = message.error()
                if error is None:
                    self.messages.append(message)
                elif not error.retriable() and error.code() not in PASSING:
                    self.fault = error.str()


def read_all(cluster: TestCluster, topic: str, partitions: int = 4) -> list[Message]:
    """All committed records of a topic at rest.

    Raises:
        AssertionError: a transaction is still open, so that records after it cannot be read.
    """
    consumer = Consumer(
        cluster.conf
        | {
            "group.id": cluster.unique("reader"),
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # records may have been deleted
            "enable.partition.eof": "true",
            "enable.auto.commit": "false",
            "fetch.wait.max.ms": "20",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    messages: list[Message] = []
    ended: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE_S
    # The marker of a transaction may be written behind the answer to its end: what is readable grows up to the end.
    while len(ended) < partitions or ended != (ends := _ends(cluster, topic, partitions)):
        assert time.monotonic() < deadline, (
            f"{topic}: readable up to {ended} of {ends if len(ended) == partitions else partitions}; where they differ "
            "a transaction is open"
        )
        for message in consumer.consume(10_000, 0.2):
            deadline = time.monotonic() + PATIENCE_S  # something came
            if message.error() is None:
                messages.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended[message.partition()] = message.offset()
    consumer.close()
    return messages


def _ends(cluster: TestCluster, topic: str, partitions: int) -> dict[int, int]:
    """The end of each partition's log.

    By a client of its own: on a consumer's connection the question would wait behind a fetch.
    """
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(partitions)}

    def ask() -> dict[int, int]:
        admin = AdminClient(dict(cluster.conf))  # it must live until the answer is there
        answers = admin.list_offsets(asked, request_timeout=20)
        ends = {place.partition: answer.result().offset for place, answer in answers.items()}
        if min(ends.values()) < 0:  # a partition whose leader is being elected is answered so, without an error
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return ends

    return _answered(ask)


def committed_offsets(cluster: TestCluster, group_id: str, topic: str, partitions: int = 4) -> list[int]:
    """A group's committed offset of each partition; -1001 where there is none."""
    asked = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer = Consumer(cluster.conf | {"group.id": group_id, "isolation.level": "read_committed"})

    def ask() -> list[int]:
        answers = consumer.committed(asked, timeout=10)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return [answer.offset for answer in answers]

    try:
        return _answered(ask)
    finally:
        consumer.close()


def _answered(ask: Callable[[], Answer]) -> Answer:
    """Ask until there is an answer: a broker that has just started is no coordinator and no leader yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def partitions_of(cluster: TestCluster, topic: str) -> int:
    """How many partitions a topic has now; one that was created a moment ago is waited for.

    Raises:
        KafkaException: the broker does not answer, or does not know the topic.
    """

    def ask() -> int:
        # A client that was told once that a topic is unknown, right after its creation, may say so for ever.
        found = AdminClient(dict(cluster.conf)).list_topics(topic, timeout=20).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return len(found.partitions)

    return _answered(ask)


def output(message: Message) -> Output:
    """A client's message as the checker's value."""
    return Output(message.partition(), message.offset(), message.key(), message.value(), message.timestamp()[1])


def dead_letter(message: Message) -> DeadLetter:
    """A client's message as the checker's value; whom it is about is told by its last headers (KIP-1034)."""
    headers: dict[str, Any] = dict(message.headers() or [])
    try:
        names = ("__streams.errors.partition", "__streams.errors.offset")
        partition, offset = (int(headers[name]) for name in names)
        topic, source = headers["__streams.errors.topic"].decode(), (partition, offset)
    except (KeyError, ValueError, TypeError):
        topic, source = "", None
    return DeadLetter(message.partition(), message.offset(), source, topic, message.timestamp()[1])
