"""Exactly once: events, dead letters and offsets in one transaction.

Errors are read in one order (RELIABILITY rule 9): what requires an abort is aborted, what is retriable is the same
call again, anything else ends the process. Whether a commit without an answer went through is never guessed: the
producer is replaced, which settles its last transaction, and the broker's committed offset says what happened.

A call that was made again may have sent its request twice, and the first may still be on its way (rule 11). Arriving
late, it would commit half of another transaction, abort it, or put its offsets back. So the producer is replaced even
when the second call has succeeded: the new epoch fences whatever comes late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from worker.errors import CommitPostponed, FatalFault, TransientFault
from worker.kafka.access import ACCESS_ERRORS, missing_right
from worker.kafka.client import fatal
from worker.kafka.overdue import within
from worker.kafka.sink import CALL_TIMEOUT_S, GIVE_UP_S, Sink, log
from worker.kafka.source import Source
from worker.records import Outcome, Position

FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
BETWEEN_GENERATIONS = (KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
TRANSACTION_TIMEOUT_S = 10.0
TRANSACTION_CONF: dict[str, Any] = {"transaction.timeout.ms": round(1000 * TRANSACTION_TIMEOUT_S)}
# Calls of one transaction that had no answer for so long: the broker was away until the transaction expired. A process
# that was stopped itself comes to one call's time-out and no further, however long that was.
BROKER_AWAY_S = 1.5 * CALL_TIMEOUT_S


class TransactionalSink(Sink):
    """Exactly once: events, dead letters and offsets share one transaction.

    Args:
        transactional_id: stable for this worker, unique in the group.
        instance: what the operator calls this worker, for messages.
    """

    def __init__(
        self, conf: Mapping[str, str], output_topic: str, dead_letter_topic: str, transactional_id: str, instance: str
    ) -> None:
        self._transactional_id = transactional_id
        self._instance = instance
        self._begun = False
        self._unanswered = False  # a request without an answer may still be on its way
        self._waited_s = 0.0  # for answers, since the transaction began
        super().__init__(conf, output_topic, dead_letter_topic)

    def start(self) -> None:
        """Register the transactional.id: fences a predecessor and settles its last transaction."""
        self._call("init_transactions", lambda: self._producer.init_transactions(CALL_TIMEOUT_S))
        self._listen()  # to what the client met before it found a broker
        self._unanswered = False

    def produce(self, outcome: Outcome) -> None:
        """Produce within the open transaction, beginning one when there is something to say."""
        if outcome.values or outcome.dead_letters:
            self._begin()
            try:
                super().produce(outcome)
            except KafkaException as fault:
                raise self._reaction("produce", self._reason(fault.args[0])) from None

    def commit(self, positions: Sequence[Position], source: Source) -> None:
        """Send the offsets to the transaction and commit it."""
        if not positions and not self._begun:
            return
        self._begin()
        self._postpone_if_lost()
        offsets = [TopicPartition(source.topic, p.partition, p.offset, p.note) for p in positions]
        self._call(
            "send_offsets_to_transaction",
            lambda: self._producer.send_offsets_to_transaction(offsets, source.group_metadata(), CALL_TIMEOUT_S),
        )
        self._call("commit_transaction", lambda: self._producer.commit_transaction(CALL_TIMEOUT_S))
        self._begun = False
        if self._unanswered:
            with suppress(TransientFault):  # this commit stands; `_begin` tries again
                self._replace()

    def abort(self) -> None:
        """Abort the open transaction; a producer that cannot is replaced.

        The client drops what it has queued by itself. What is on its way must arrive: a purge would leave a gap in the
        sequence numbers, and one in three of the next transactions would wait for its time-out, or fail.
        """
        if not self._begun:
            return
        self._begun = False
        try:
            self._wait("abort_transaction", lambda: self._producer.abort_transaction(CALL_TIMEOUT_S))
        except KafkaException as fault:
            error = fault.args[0]
            self._unanswered = True
            if error.retriable() and not error.fatal():
                self._raise_cause()
            else:
                self._refuse_to_fight(error)
            log.warning("abort_transaction: %s; the producer is replaced", error.str())
        if self._unanswered:
            self._replace()

    def _begin(self) -> None:
        if not self._begun:
            self._listen()
            if self._unanswered:
                self._replace()
            try:
                self._producer.begin_transaction()
            except KafkaException as fault:
                raise self._reaction("begin_transaction", fault.args[0]) from None
            self._begun = True
            self._waited_s = 0.0

    def _postpone_if_lost(self) -> None:
        """Begin anew with another client where this one lost every broker; nothing was asked to be committed yet."""
        if self._unanswered:
            self._replace()
            raise CommitPostponed("every broker was out of reach")

    def _call(self, what: str, request: Callable[[], Any]) -> None:
        """Make one call until its outcome is known, or the broker has ended the transaction that it belongs to.

        Then the producer is replaced, and not only because the broker may have been away: a client that lost the
        connection to its coordinator may never find it again (seen with librdkafka 2.16), while a new one does at once.
        """
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                self._wait(what, request)
            except KafkaException as fault:
                error = fault.args[0]
                self._raise_cause()
                if error.retriable() and not error.txn_requires_abort() and time.monotonic() < deadline:
                    self._unanswered = True
                    if self._begun and self._waited_s >= TRANSACTION_TIMEOUT_S:
                        log.warning("%s: %s; the producer is replaced", what, error.str())
                        self._replace()
                        raise TransientFault(f"{what}: {error.str()}") from None
                    log.warning("%s: %s; again", what, error.str())
                    continue
                raise self._reaction(what, error) from None
            return

    def _wait(self, what: str, request: Callable[[], Any]) -> None:
        begun = time.monotonic()
        try:
            within(what, request)
        finally:
            self._waited_s += min(time.monotonic() - begun, CALL_TIMEOUT_S)

    def _reason(self, error: KafkaError) -> KafkaError:
        """Why a transaction or its producer has failed: `produce` itself says no more than that it has."""
        if error.code() in (KafkaError._STATE, KafkaError._FATAL):
            try:
                self._producer.begin_transaction()
            except KafkaException as fault:
                return fault.args[0]
        return error

    def _reaction(self, what: str, error: KafkaError) -> Exception:
        """Do what an error asks for and return what to raise."""
        self._refuse_to_fight(error)
        if error.code() in ACCESS_ERRORS:
            return FatalFault(f"{what}: {missing_right(error, self._rights())}")
        if error.txn_requires_abort():
            if self._unanswered:
                self._replace()
                return TransientFault(f"{what}: {error.str()}")
            self.abort()
            between = what == "send_offsets_to_transaction" and error.code() in BETWEEN_GENERATIONS
            return (CommitPostponed if between else TransientFault)(f"{what}: {error.str()}")
        if error.code() in (KafkaError._FATAL, *FENCED) or error.fatal():
            self._replace()
            return TransientFault(f"{what}: {error.str()}")
        return fatal(what, error)

    def _refuse_to_fight(self, error: KafkaError) -> None:
        """A fenced producer has a successor; taking its place back would fence that one in turn.

        Unless it was the broker that was away: it ends a transaction that is older than its time-out, and fences its
        producer, as soon as it is back.
        """
        if error.code() in FENCED and not error.txn_requires_abort() and self._waited_s < BROKER_AWAY_S:
            raise FatalFault(
                f"another worker took over transactional.id {self._transactional_id} (or this one was away for longer "
                f"than its transaction time-out): {error.str()}. Two workers with instance_id {self._instance} fence "
                "each other: give each its own instance_id"
            )

    def _replace(self) -> None:
        """A new producer with the same transactional.id: whatever the last one left open is settled."""
        self._begun = False
        self._waited_s = 0.0
        self._producer.purge()
        self._producer = self._new_producer()
        self.start()

    def _rights(self) -> dict[str, str]:
        """What the calls of a transaction need, by resource; the broker does not say which topic it means."""
        topics = f"WRITE on topic {self._output_topic} or {self._dead_letter_topic}, or READ on the input topic"
        return {
            "topic": topics,
            "group": "READ on the consumer group",
            "transactional-id": f"WRITE on transactional-id {self._transactional_id}",
        }

    def _on_error(self, error: KafkaError) -> None:
        """A client that lost every broker is replaced as soon as that costs nothing.

        A broker that comes back may tell of a cluster without itself. The client then takes it for gone, and waits for
        what it remembers of it without end: "Handle is terminating", and `send_offsets_to_transaction` does not return
        (librdkafka issue 5511).
        """
        super()._on_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._unanswered = True

    def _new_producer(self, **own: Any) -> Producer:
        return super()._new_producer(**TRANSACTION_CONF, **{"transactional.id": self._transactional_id}, **own)
