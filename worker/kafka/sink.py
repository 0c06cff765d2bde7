"""Where outcomes go: what both delivery guarantees share, and the simpler of the two, flush and then commit."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.errors import FatalFault, TransientFault
from worker.kafka.access import ACCESS_ERRORS, CREDENTIAL_ERRORS, missing_right, refusal
from worker.kafka.client import fatal, new_client, producer_properties
from worker.kafka.source import Source
from worker.records import Outcome, Position

log = logging.getLogger("librdkafka")

CALL_TIMEOUT_S = 5.0
GIVE_UP_S = 120.0
PRODUCER_CONF: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 5,
    "queue.buffering.max.messages": 1_000_000,
    # Java's default for keyed records: the same key goes to the same partition, whoever wrote it.
    "partitioner": "murmur2_random",
    "delivery.report.only.error": True,
}


@contextmanager
def serving_callbacks() -> Iterator[None]:
    """A fatal error as itself: the client calls back while that is on its way, where no call of its own succeeds."""
    try:
        yield
    except SystemError as fault:
        if not isinstance(fault.__cause__, KafkaException):
            raise
        raise fault.__cause__ from None


class Sink(ABC):
    """Where a poll's outcome goes.

    Args:
        conf: properties of every client.
        output_topic: of the events.
        dead_letter_topic: of the refused records.
    """

    def __init__(self, conf: Mapping[str, str], output_topic: str, dead_letter_topic: str) -> None:
        self._conf = conf
        self._output_topic = output_topic
        self._dead_letter_topic = dead_letter_topic
        self._cause: FatalFault | None = None
        self._undelivered: list[str] = []
        self._producer = self._new_producer()

    @abstractmethod
    def start(self) -> None:
        """Be ready to produce.

        Raises:
            FatalFault: the broker refuses this client, or does not answer.
        """

    @abstractmethod
    def commit(self, positions: Sequence[Position], source: Source) -> None:
        """Make everything produced so far and the input offsets durable and visible, all or nothing.

        Raises:
            TransientFault: nothing of it was; the memory must be dropped and rebuilt.
            FatalFault: the process cannot go on.
        """

    @abstractmethod
    def abort(self) -> None:
        """Give up what was produced since the last commit, as far as the delivery guarantee can."""

    def produce(self, outcome: Outcome) -> None:
        """Hand an outcome's events to the client; they leave in the background."""
        self._produce_values(outcome)
        for letter in outcome.dead_letters:
            self._until_accepted(self._dead_letter_topic, letter.value, letter.key, headers=letter.headers)
        self._poll()

    def close(self) -> None:
        """End the client; what was not committed is aborted by the broker in time."""
        try:
            self._producer.purge()
            with serving_callbacks():
                self._producer.flush(1.0)
        except KafkaException as fault:
            log.warning("closing the producer: %s", fault.args[0].str())  # a fenced one has nothing to close

    def _produce_values(self, outcome: Outcome) -> None:
        produce, topic = self._producer.produce, self._output_topic
        if outcome.headers is not None:
            for value, key, headers in zip(outcome.values, outcome.keys, outcome.headers, strict=True):
                try:
                    produce(topic, value, key, headers=headers)
                except BufferError:
                    self._until_accepted(topic, value, key, headers=headers)
            return
        for value, key in zip(outcome.values, outcome.keys, strict=True):
            try:
                produce(topic, value, key)
            except BufferError:
                self._until_accepted(topic, value, key)

    def _until_accepted(self, topic: str, value: bytes | None, key: bytes | None, **others: Any) -> None:
        """Produce, waiting while the client's queue is full: that is the back-pressure of a slow broker."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                self._producer.produce(topic, value, key, **others)
            except BufferError:
                if time.monotonic() > deadline:
                    raise FatalFault(
                        f"the output queue was full for {GIVE_UP_S:.0f} s: the broker takes nothing"
                    ) from None
                self._poll(0.05)
            else:
                return

    def _new_producer(self, **own: Any) -> Producer:
        callbacks = {"error_cb": self._on_error, "on_delivery": self._on_delivery}
        merged = {**PRODUCER_CONF, **own, **producer_properties(self._conf), **callbacks}
        return new_client(Producer, merged, logger=log)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in CREDENTIAL_ERRORS:
            self._cause = FatalFault(refusal(error))
        else:
            log.warning("producer: %s", error.str())

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() in ACCESS_ERRORS:
            self._cause = FatalFault(missing_right(error, {"topic": f"WRITE on topic {message.topic()}"}))
        if error is not None and len(self._undelivered) < 10:
            self._undelivered.append(f"{message.topic()}: {error.str()}")

    def _poll(self, timeout_s: float = 0.0) -> None:
        with serving_callbacks():
            self._producer.poll(timeout_s)

    def _listen(self) -> None:
        """Have the client tell what it met: its callbacks are served by `poll` only."""
        with suppress(KafkaException):  # of a fatal producer, whose calls say the same
            self._poll()

    def _raise_cause(self) -> None:
        """Credentials that are wrong show up in the error callback only."""
        self._listen()
        if self._cause is not None:
            raise self._cause


class FlushingSink(Sink):
    """At least once: everything is delivered before the offsets are committed."""

    def produce(self, outcome: Outcome) -> None:
        """Produce; the client retries by itself."""
        try:
            super().produce(outcome)
        except KafkaException as fault:
            raise fatal("produce", fault.args[0]) from None

    def start(self) -> None:
        """Wait for a broker, so that a wrong address or password is told at the start."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                self._producer.list_topics(timeout=CALL_TIMEOUT_S)
            except KafkaException as fault:
                self._raise_cause()
                if time.monotonic() > deadline:
                    raise fatal("connecting", fault.args[0]) from None
            else:
                return

    def commit(self, positions: Sequence[Position], source: Source) -> None:
        """Flush, then commit the offsets through the consumer."""
        deadline = time.monotonic() + GIVE_UP_S
        try:
            while self._flush() and time.monotonic() < deadline:
                self._raise_cause()
        except KafkaException as fault:
            raise fatal("flush", fault.args[0]) from None
        if len(self._producer):
            raise FatalFault(f"{len(self._producer)} events were not delivered within {GIVE_UP_S:.0f} s")
        if self._undelivered:
            self._raise_cause()
            undelivered, self._undelivered = self._undelivered, []
            raise TransientFault(f"events were not delivered: {'; '.join(undelivered)}")
        if positions:
            source.commit(positions)

    def abort(self) -> None:
        """Let arrive what is on its way: it will be delivered again, and a purge would fail the next commit."""
        with suppress(KafkaException):  # of a fatal producer, whose next call says so
            self._flush()
        self._undelivered = []

    def _flush(self) -> int:
        with serving_callbacks():
            return self._producer.flush(CALL_TIMEOUT_S)
