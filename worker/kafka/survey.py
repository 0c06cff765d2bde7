"""What the broker says when a partition is to be restored: the topic's size, the group's offsets, the log's bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from worker.errors import TransientFault
from worker.records import Position

log = logging.getLogger("librdkafka")

REQUEST_TIMEOUT_S = 10.0
COMMITTED_WITHIN_S = 20.0  # a coordinator that was just elected loads the group's offsets first
PAUSE_S = 0.2


@dataclass(frozen=True)
class Survey:
    """The broker's view at one moment.

    Attributes:
        partitions: of the topic.
        committed: the group's committed offsets with their notes, of all partitions; one that has none is left out.
        bounds: of the logs that were asked for, the first offset and the one behind the last.
    """

    partitions: int
    committed: dict[int, Position]
    bounds: dict[int, tuple[int, int]]


def take_survey(consumer: Any, admin: Any, topic: str, partitions: Sequence[int]) -> Survey:
    """Ask for everything that a restore needs.

    Args:
        consumer: a member of the group.
        admin: for the log's bounds: on the consumer's connection the question would wait behind a fetch.
        topic: the input topic.
        partitions: whose logs are wanted.

    Raises:
        TransientFault: no answer.
    """
    count = max(_partition_count(admin, topic), max(partitions) + 1)
    committed = _committed(consumer, topic, range(count))
    low = _list_offsets(admin, topic, partitions, OffsetSpec.earliest())
    high = _list_offsets(admin, topic, partitions, OffsetSpec.latest())
    return Survey(count, committed, {partition: (low[partition], high[partition]) for partition in partitions})


def _partition_count(admin: Any, topic: str) -> int:
    """Asked by the client that asks for bounds next: it then knows of leaders that were elected meanwhile.

    Without that it would ask with the epoch of the leader it knows, be refused as fenced, and learn nothing from it.
    """
    try:
        found = admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
    except KafkaException as fault:
        raise TransientFault(f"partitions of {topic}: {fault.args[0].str()}") from None
    if found.error is not None:
        raise TransientFault(f"partitions of {topic}: {found.error.str()}")
    return len(found.partitions)


def _committed(consumer: Any, topic: str, partitions: Sequence[int]) -> dict[int, Position]:
    """Bounded and tried again: a time-out is never "no offset" (RELIABILITY rule 6)."""
    wanted = [TopicPartition(topic, partition) for partition in partitions]
    deadline = time.monotonic() + COMMITTED_WITHIN_S
    while True:
        try:
            found = consumer.committed(wanted, timeout=REQUEST_TIMEOUT_S)
            errors = [answer.error for answer in found if answer.error is not None]
        except KafkaException as fault:
            errors = [fault.args[0]]
        if not errors:
            return {a.partition: Position(a.partition, a.offset, a.metadata or "") for a in found if a.offset >= 0}
        if time.monotonic() >= deadline:
            raise TransientFault(f"committed offsets of {topic}: {errors[0].str()}")
        log.warning("committed offsets: %s; again", errors[0].str())
        time.sleep(PAUSE_S)


def _list_offsets(admin: Any, topic: str, partitions: Sequence[int], spec: Any) -> dict[int, int]:
    wanted = {TopicPartition(topic, partition): spec for partition in partitions}
    found = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_TIMEOUT_S)
    try:
        bounds = {entry.partition: int(future.result().offset) for entry, future in found.items()}
    except KafkaException as fault:
        raise TransientFault(f"log bounds of {topic}: {fault.args[0].str()}") from None
    # While a leader is elected the client may answer without an error and without an offset (-1001).
    untold = sorted(partition for partition, offset in bounds.items() if offset < 0)
    if untold:
        raise TransientFault(f"log bounds of {topic}: no answer for partitions {untold}")
    return bounds
