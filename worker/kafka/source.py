"""Records in: the input topic as one member of a consumer group.

One thread owns the client. Its callbacks note what happened or do what must be done before they return, and never
raise: an exception that leaves `consume()` loses the records it had taken from the queue (RELIABILITY rule 1).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from worker.errors import CellstreamError, FatalFault, TransientFault
from worker.kafka.access import ACCESS_ERRORS, CREDENTIAL_ERRORS, missing_right, refusal
from worker.kafka.client import client_properties, consumer_properties, fatal, new_client
from worker.kafka.messages import NAME_TAKEN, batch_of, check, end_of_log, name_is_taken
from worker.kafka.second_round import SecondRound
from worker.kafka.survey import Survey, take_survey
from worker.records import Position, RecordBatch

log = logging.getLogger("librdkafka")

CONSUMER_CONF: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "check.crcs": True,
    # After a full prefetch queue the fetcher sleeps this long; the default of a second makes the worker wait.
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 65_536,
}
CLASSIC_CONF: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    # A member learns of a rebalance by its next heartbeat: at 3 s, the default, the streams of a restarted peer wait.
    "heartbeat.interval.ms": 500,
}

NAME_FREE_WITHIN_S = 90.0
NAME_PAUSE_S = 1.0


class Listener(Protocol):
    """What the owner of a `Source` does when partitions come and go; called inside `poll`, must not raise."""

    def on_assign(self, partitions: Sequence[int]) -> None:
        """Partitions are ours; their records flow once each was opened."""

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """Partitions are about to go: finish or abort what concerns them before this returns."""

    def on_lost(self, partitions: Sequence[int]) -> None:
        """Partitions went already, somebody else may own them: commit nothing."""


class Source:
    """The input topic, as one member of the consumer group.

    A partition of the group's is not fetched at all until the main loop has its state (RELIABILITY rule 7) and opens
    it at the offset where that ends: the assignment in the callback is empty, and `open` assigns the partition there.
    Two other ways lose records. Assigning at an offset and pausing at once loses the offset (librdkafka issue 2190).
    Assigning at a logical offset, such as the end, and seeking leaves a look-up on its way, whose late answer moves
    the partition away from where it was sought: 11 of 25 tries within 4 ms skipped a whole partition. A partition
    that was opened before, at a number, may be sought.

    Args:
        conf: properties of every client: brokers, security, and whatever was passed through.
        topic: the input topic.
        group_id: the consumer group.

    Attributes:
        joined: the group has given us partitions, be it none, and has not taken them away without asking since.
        ends: of open partitions whose last record was taken, the offset behind it and behind what cannot be read, such
            as the marker of a transaction. Only with `enable.partition.eof`, which the worker does not use.
    """

    def __init__(self, conf: Mapping[str, str], topic: str, group_id: str) -> None:
        self.topic = topic
        self.group_id = group_id
        self.joined = False
        self.ends: dict[int, int] = {}
        self._listener: Listener | None = None
        self._fault: CellstreamError | None = None
        self._assigned: set[int] = set()
        self._open: set[int] = set()
        self._placed: dict[int, int] = {}  # partitions that the client fetches, and from where at the latest assignment
        own = {"group.id": group_id, "error_cb": self._on_error, **CONSUMER_CONF}
        if conf.get("group.protocol") != "consumer":
            own = {**CLASSIC_CONF, **own}
        merged = {**own, **consumer_properties(conf)}
        strategy = str(merged.get("partition.assignment.strategy", "cooperative-sticky"))
        self._incremental = "cooperative" in strategy
        self._new_consumer = lambda: new_client(Consumer, merged, logger=log)
        self._consumer = self._new_consumer()
        self._name_free_by = float("inf")
        self._admin = new_client(AdminClient, {"log_level": "3", **client_properties(conf)})
        in_two_rounds = self._incremental and conf.get("group.protocol") != "consumer"
        may_owe_a_round = in_two_rounds and "group.instance.id" in conf
        self._second_round = SecondRound(self._admin, group_id, topic) if may_owe_a_round else None

    def subscribe(self, listener: Listener) -> None:
        """Join the group."""
        self._listener = listener
        self._name_free_by = min(self._name_free_by, time.monotonic() + NAME_FREE_WITHIN_S)
        self._consumer.subscribe(
            [self.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """Records of open partitions, in batches by partition; runs the listener.

        Raises:
            FatalFault: the client cannot go on, or has no right to.
            StateRefused: an open partition's next record is gone from the log.
        """
        messages = self._consumer.consume(1, timeout_s)  # returns with the first record (rule 2)
        if messages and max_records > 1:
            messages += self._consumer.consume(max_records - 1, 0)
        if self._fault is not None:
            raise self._fault
        if any(map(Message.error, messages)):
            if not self.joined and any(map(name_is_taken, messages)) and time.monotonic() < self._name_free_by:
                self._join_again()
                return []
            for message in messages:
                check(message, self.topic, message.partition() in self._open, self.rights)
                end = end_of_log(message)
                if end is not None and message.partition() in self._open:
                    self.ends[message.partition()] = end
            messages = [message for message in messages if message.error() is None]
        by_partition: dict[int, list[Message]] = {}
        for partition, message in zip(map(Message.partition, messages), messages, strict=True):
            by_partition.setdefault(partition, []).append(message)
        if self.joined and self._second_round is not None and self._second_round.is_owed():
            self._ask_for_a_round()
        return [batch_of(partition, found) for partition, found in by_partition.items() if partition in self._open]

    def _ask_for_a_round(self) -> None:
        """To subscribe alone would change nothing that makes the broker call a rebalance."""
        assert self._listener is not None
        self._consumer.unsubscribe()
        self.subscribe(self._listener)

    def _join_again(self) -> None:
        """With a new client: to the old one it was fatal that a member of our name is still in its session."""
        log.warning("joining: %s; again", NAME_TAKEN)
        assert self._listener is not None
        time.sleep(NAME_PAUSE_S)
        self._consumer.close()
        self._consumer = self._new_consumer()
        self.subscribe(self._listener)

    @property
    def rights(self) -> dict[str, str]:
        """What a consumer needs, by resource; see `missing_right`."""
        return {"topic": f"READ on topic {self.topic}", "group": f"READ on group {self.group_id}"}

    @property
    def assigned(self) -> frozenset[int]:
        """Partitions of this member now."""
        return frozenset(self._assigned)

    def open(self, partition: int, offset: int) -> bool:
        """Let a partition's records flow from an offset on; False while the client is not ready for that."""
        start = TopicPartition(self.topic, partition, offset)
        try:
            if partition in self._placed:
                self._consumer.seek(start)
            elif self._incremental:
                self._consumer.incremental_assign([start])
            else:
                self._consumer.assign([*self._positions(), start])
        except KafkaException as fault:
            if fault.args[0].code() in (KafkaError._STATE, KafkaError._TIMED_OUT):
                return False
            raise fatal(f"opening {self.topic}[{partition}] at {offset}", fault.args[0]) from None
        self._placed[partition] = offset
        self._open.add(partition)
        self.ends.pop(partition, None)
        return True

    def _positions(self) -> list[TopicPartition]:
        """Where the fetched partitions stand: an eager assignment replaces the whole and must repeat them."""
        found = self._consumer.position([TopicPartition(self.topic, partition) for partition in self._placed])
        for entry in found:
            if entry.offset < 0:  # nothing was taken from it since it was assigned
                entry.offset = self._placed[entry.partition]
            self._placed[entry.partition] = entry.offset
        return list(found)

    def close_partitions(self) -> None:
        """Drop all records until the partitions are opened anew."""
        self._open.clear()
        self.ends.clear()

    def survey(self, partitions: Sequence[int]) -> Survey:
        """What the broker says of the topic, the group and the logs of some partitions.

        Raises:
            TransientFault: no answer.
        """
        return take_survey(self._consumer, self._admin, self.topic, partitions)

    def log_end(self, partition: int) -> int | None:
        """The end of the log as the last fetch told it; None before the first. Asks nobody."""
        found = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
        return None if found is None or found[1] < 0 else int(found[1])

    def group_metadata(self) -> Any:
        """The client's proof of membership, fresh for every transaction (rule 10)."""
        return self._consumer.consumer_group_metadata()

    def commit(self, positions: Sequence[Position]) -> None:
        """Commit offsets outside a transaction, for at-least-once.

        Raises:
            TransientFault: the group moved on without us.
            FatalFault: a right was taken away.
        """
        offsets = [TopicPartition(self.topic, p.partition, p.offset, p.note) for p in positions]
        try:
            answers = self._consumer.commit(offsets=offsets, asynchronous=False)
            failed = [answer.error for answer in answers or [] if answer.error is not None]
        except KafkaException as fault:
            failed = [fault.args[0]]
        denied = [error for error in failed if error.code() in ACCESS_ERRORS]
        if denied:
            raise FatalFault(missing_right(denied[0], self.rights))
        if failed:
            raise TransientFault(f"commit: {failed[0].str()}")

    def close(self) -> None:
        """Leave the group; runs `on_revoke` for what is still assigned."""
        try:
            self._consumer.close()
        except KafkaException as fault:
            log.warning("leaving the group: %s", fault.args[0].str())  # it will be noticed by the session time-out

    def _on_assign(self, consumer: Any, found: list[TopicPartition]) -> None:
        partitions = [entry.partition for entry in found]
        self._guard(lambda: consumer.incremental_assign([]) if self._incremental else consumer.assign([]))
        self.joined = True
        self._assigned.update(partitions)
        self._notify("on_assign", partitions)

    def _on_revoke(self, consumer: Any, found: list[TopicPartition]) -> None:
        self._give_up("on_revoke", consumer, found)

    def _on_lost(self, consumer: Any, found: list[TopicPartition]) -> None:
        self.joined = False
        self._give_up("on_lost", consumer, found)

    def _give_up(self, callback: str, consumer: Any, found: list[TopicPartition]) -> None:
        self._notify(callback, [entry.partition for entry in found])
        placed = [entry for entry in found if entry.partition in self._placed]
        for entry in found:
            self._assigned.discard(entry.partition)
            self._open.discard(entry.partition)
            self.ends.pop(entry.partition, None)
            self._placed.pop(entry.partition, None)
        self._guard(lambda: consumer.incremental_unassign(placed) if self._incremental else consumer.unassign())

    def _notify(self, callback: str, partitions: Sequence[int]) -> None:
        assert self._listener is not None
        self._guard(lambda: getattr(self._listener, callback)(partitions))

    def _guard(self, action: Callable[[], Any]) -> None:
        """Run a part of a callback; what it raises waits until `poll` may raise it."""
        try:
            action()
        except CellstreamError as fault:
            self._fault = self._fault or fault
        except KafkaException as fault:
            self._fault = self._fault or fatal("rebalance", fault.args[0])

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in CREDENTIAL_ERRORS:
            self._fault = self._fault or FatalFault(refusal(error))
        elif error.fatal():
            self._fault = self._fault or fatal("consumer", error)
        else:
            log.warning("consumer: %s", error.str())
