"""The checker's own questions to the broker: an open transaction is seen where it is, and only as long as it is."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.chaos.checker.broker import open_transactions
from tests.deployment import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_an_open_transaction_is_listed_until_it_ends(kafka: TestCluster, end: str) -> None:
    topic, name = kafka.topic("probabilities"), kafka.unique("group")
    producer = Producer(kafka.conf | {"transactional.id": f"{name}-worker-0"})
    producer.init_transactions(60)
    assert open_transactions(kafka.conf, [topic], name) == []
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=2)
    assert producer.flush(60) == 0
    assert open_transactions(kafka.conf, [topic], name) == [
        f"{name}-worker-0 is in state Ongoing",
        f"{topic}[2]: a transaction of {name}-worker-0 since offset 0",
    ]
    assert open_transactions(kafka.conf, [topic], "somebody else") == []
    getattr(producer, end)(20)
    # The coordinator writes the markers behind its answer.
    until(lambda: not open_transactions(kafka.conf, [topic], name), f"nothing open after {end}")
