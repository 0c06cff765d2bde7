"""What an abort leaves behind must not disturb the next transaction: on a real broker, whatever is on its way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import KafkaProcess
from tests.deployment import Reader, read_all, until
from worker.errors import CommitPostponed, FatalFault, TransientFault
from worker.kafka import FlushingSink, Sink, Source, TransactionalSink
from worker.kafka.overdue import within
from worker.kafka.transaction import TRANSACTION_CONF
from worker.records import Outcome

ROUNDS = 40

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_follows_an_abort_is_committed_whatever_was_on_its_way(kafka: TestCluster, delivery: str) -> None:
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    sink: Sink = FlushingSink(kafka.conf, *topics)
    if delivery == "exactly_once":
        sink = TransactionalSink(kafka.conf, *topics, kafka.unique("transaction"), "worker-0")
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))
    sink.start()
    try:
        for round_ in range(ROUNDS):
            sink.produce(outcome(b"aborted", 300))
            time.sleep(round_ % 10 * 0.002)  # some requests have left, some have arrived
            sink.abort()
            sink.produce(outcome(b"committed", 50))
            sink.commit([], source)  # raises when it was aborted instead
    finally:
        sink.close()
        source.close()


def outcome(word: bytes, count: int) -> Outcome:
    found = Outcome()
    found.values = [word] * count
    found.keys = [str(number).encode() for number in range(count)]
    return found


@pytest.mark.timeout(240)
def test_a_broker_that_was_away_for_longer_than_a_transaction_lives_costs_that_and_no_more(
    kafka_process: KafkaProcess,
) -> None:
    kafka = TestCluster("kafka", kafka_process.bootstrap_servers)
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    sink = TransactionalSink(kafka.conf, *topics, kafka.unique("transaction"), "worker-0")
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))
    sink.start()
    try:
        sink.produce(outcome(b"given-up", 50))
        time.sleep(1)  # the broker knows of the transaction
        kafka_process.kill()
        threading.Timer(TRANSACTION_CONF["transaction.timeout.ms"] / 1000 + 2, kafka_process.launch).start()
        with pytest.raises(TransientFault):
            sink.commit([], source)
        sink.produce(outcome(b"committed", 50))
        sink.commit([], source)
    finally:
        sink.close()
        source.close()


@pytest.mark.timeout(240)
def test_a_client_that_lost_every_broker_is_replaced_and_its_work_is_there_once(
    kafka_process: KafkaProcess, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = TestCluster("kafka", kafka_process.bootstrap_servers)
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    sink = TransactionalSink(kafka.conf, *topics, kafka.unique("transaction"), "worker-0")
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))

    def noticed() -> bool:
        sink._listen()
        return "brokers are down" in caplog.text

    def lose_every_broker() -> None:
        caplog.clear()
        kafka_process.kill()
        until(noticed, "the client to notice")
        kafka_process.restart()

    sink.start()
    try:
        sink.produce(outcome(b"before", 10))
        sink.commit([], source)
        lose_every_broker()  # between two transactions: nobody is told
        sink.produce(outcome(b"between", 10))
        sink.commit([], source)
        sink.produce(outcome(b"within", 10))
        lose_every_broker()
        with pytest.raises(CommitPostponed):
            sink.commit([], source)
        sink.produce(outcome(b"within", 10))
        sink.commit([], source)
    finally:
        sink.close()
        source.close()
    found = Counter(message.value() for message in read_all(kafka, topics[0]))
    assert found == {b"before": 10, b"between": 10, b"within": 10}


@pytest.mark.timeout(180)
def test_every_call_that_asks_the_broker_is_ended_when_it_never_returns(
    kafka: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[str] = []

    def noted(what: str, request: Callable[[], Any]) -> Any:
        limited.append(what)
        return within(what, request)

    monkeypatch.setattr("worker.kafka.transaction.within", noted)
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    sink = TransactionalSink(kafka.conf, *topics, kafka.unique("transaction"), "worker-0")
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))
    try:
        sink.start()
        sink.produce(outcome(b"committed", 5))
        sink.commit([], source)
        sink.produce(outcome(b"aborted", 5))
        sink.abort()
    finally:
        sink.close()
        source.close()
    assert set(limited) == {
        "init_transactions",
        "send_offsets_to_transaction",
        "commit_transaction",
        "abort_transaction",
    }


def produce_for_a_while(sink: Sink) -> None:
    """Until the client refuses, once it knows of a fence."""
    for _ in range(1000):
        sink.produce(outcome(b"late", 1))
        time.sleep(0.02)


@pytest.mark.timeout(180)
def test_a_fenced_producer_takes_nobodys_place_wherever_it_learns_of_it(kafka: TestCluster) -> None:
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    name = kafka.unique("transaction")
    first, second = (TransactionalSink(kafka.conf, *topics, name, "worker-0") for _ in range(2))
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))
    try:
        first.start()
        first.produce(outcome(b"first", 1))
        second.start()
        with pytest.raises(FatalFault, match="worker-0 fence each other"):
            produce_for_a_while(first)
        second.produce(outcome(b"second", 1))
        second.commit([], source)
    finally:
        first.close()
        second.close()
        source.close()
    assert [message.value() for message in read_all(kafka, topics[0])] == [b"second"]


class Deaf:
    """A client that does not find its transactions' coordinator again, whatever the broker does."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def send_offsets_to_transaction(self, *_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "1 out-queue", retriable=True))


@pytest.mark.timeout(180)
def test_a_client_that_lost_its_coordinator_for_good_is_replaced_when_its_transaction_is_over(
    kafka: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.kafka.transaction.TRANSACTION_TIMEOUT_S", 0.0)
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
    sink = TransactionalSink(kafka.conf, *topics, kafka.unique("transaction"), "worker-0")
    source = Source(kafka.conf, kafka.topic("samples"), kafka.unique("group"))
    sink.start()
    try:
        sink._producer = Deaf(sink._producer)  # type: ignore[assignment]
        sink.produce(outcome(b"given-up", 50))
        with pytest.raises(TransientFault):
            sink.commit([], source)
        sink.produce(outcome(b"committed", 50))
        sink.commit([], source)
    finally:
        sink.close()
        source.close()
    with Reader(kafka, topics[0]) as reader:
        until(lambda: len(reader) >= 50, "the committed events")
    assert {message.value() for message in read_all(kafka, topics[0])} == {b"committed"}
