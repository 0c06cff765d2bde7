"""What an abort leaves behind must not disturb the next transaction: on a real broker, whatever is on its way."""

from __future__ import annotations

import time

import pytest

from tests.brokers.fixtures import TestCluster
from worker.kafka import Source, TransactionalSink
from worker.records import Outcome

ROUNDS = 40

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.mark.timeout(180)
def test_the_transaction_after_an_abort_is_committed_whatever_was_on_its_way(kafka: TestCluster) -> None:
    topics = kafka.topic("probabilities"), kafka.topic("dead-letters")
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
