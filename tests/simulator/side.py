"""One side of the contract between the simulator and Kafka: the classes of a client, and what programs do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

SESSION_MS = 2_000
PATIENCE_S = 30.0
COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}
EAGER = {"partition.assignment.strategy": "range"}


@dataclass(frozen=True)
class Side:
    """One implementation of the client and its broker.

    Attributes:
        consumer, producer, admin: classes with confluent_kafka's constructors.
        conf: properties of every client.
        topic: makes a topic with so many partitions and returns its name.
        unique: makes a name for a group or a transactional.id.
        now: seconds of the side's clock; calls that wait let it pass.
        sleep: lets it pass without a call.
        members: of groups, to be closed at the end.
    """

    consumer: Callable[..., Any]
    producer: Callable[..., Any]
    admin: Callable[..., Any]
    conf: dict[str, str]
    topic: Callable[[int], str]
    unique: Callable[[str], str]
    now: Callable[[], float]
    sleep: Callable[[float], None]
    members: list[Any] = field(default_factory=list)

    def observe(self, program: Callable[[Side], Any]) -> Any:
        """Run a program and close what it left open: a client that is just forgotten may wait for its callbacks."""
        try:
            return program(self)
        finally:
            for consumer in self.members:
                consumer.close()

    def transactional(self, name: str, **conf: Any) -> Any:
        """A producer that has registered its transactional.id."""
        producer = self.producer({**self.conf, "transactional.id": name, "linger.ms": 0, **conf})
        producer.init_transactions(PATIENCE_S)
        return producer

    def reader(self, topic: str, isolation: str, partitions: int = 1, begin: int = 0) -> Any:
        """A consumer that is assigned from an offset on, and belongs to no group."""
        consumer = self.consumer(
            {
                **self.conf,
                "group.id": self.unique("reader"),
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(topic, partition, begin) for partition in range(partitions)])
        return consumer

    def member(self, topic: str, group: str, name: str, seen: list[Any], **conf: Any) -> Any:
        """A member of a group that notes its callbacks and answers them as `worker.kafka.Source` does."""
        merged = {**COOPERATIVE, "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 200, **conf}
        consumer = self.consumer(
            {**self.conf, "group.id": group, "auto.offset.reset": "error", "enable.auto.commit": False, **merged}
        )
        incremental = "cooperative" in merged["partition.assignment.strategy"]

        def note(what: str, found: Sequence[TopicPartition]) -> None:
            seen.append((name, what, sorted(entry.partition for entry in found)))

        def on_assign(client: Any, found: Sequence[TopicPartition]) -> None:
            note("assign", found)
            client.incremental_assign([]) if incremental else client.assign([])

        def on_revoke(client: Any, found: Sequence[TopicPartition]) -> None:
            note("revoke", found)
            client.incremental_unassign([]) if incremental else client.unassign()

        def on_lost(client: Any, found: Sequence[TopicPartition]) -> None:
            note("lost", found)
            client.incremental_unassign([]) if incremental else client.unassign()

        consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
        self.members.append(consumer)
        return consumer

    def poll_until(self, condition: Callable[[], bool], *consumers: Any) -> list[Any]:
        """Serve consumers until a condition holds; returns what they got."""
        deadline, got = self.now() + PATIENCE_S, []
        while not condition():
            assert self.now() < deadline, "the condition never came to hold"
            for consumer in consumers:
                got += consumer.consume(10, 0.05)
        return got

    def read(self, topic: str, isolation: str, wanted: int, begin: int = 0) -> list[tuple[int, str]]:
        """So many records with their offsets, and those that follow at once."""
        reader, got = self.reader(topic, isolation, begin=begin), []
        deadline = self.now() + PATIENCE_S
        while len(got) < wanted and self.now() < deadline:
            got += reader.consume(100, 0.2)
        got += reader.consume(100, 0.5)
        reader.close()
        return [(m.offset(), m.value().decode()) if m.error() is None else (-1, m.error().name()) for m in got]

    def bounds(self, topic: str) -> tuple[int, ...]:
        """Log start, last stable offset and high watermark."""
        admin, where = self.admin(self.conf), TopicPartition(topic, 0)
        asked = (
            (OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED),
            (OffsetSpec.latest(), IsolationLevel.READ_COMMITTED),
            (OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED),
        )
        return tuple(
            admin.list_offsets({where: spec}, isolation_level=level, request_timeout=10.0)[where].result().offset
            for spec, level in asked
        )


def told(call: Callable[[], Any]) -> str:
    """What a call says: "ok", or the error with its flags."""
    try:
        call()
    except KafkaException as fault:
        error = fault.args[0]
        flags = {"fatal": error.fatal(), "retriable": error.retriable(), "abort": error.txn_requires_abort()}
        return " ".join([error.name(), *(name for name, there in flags.items() if there)])
    return "ok"
