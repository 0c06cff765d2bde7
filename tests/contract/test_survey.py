"""What a restore asks the broker is answered again when partitions have a new leader."""

from __future__ import annotations

import time

import pytest

from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import KafkaProcess
from worker.errors import TransientFault
from worker.kafka import Source
from worker.kafka.survey import Survey

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.mark.timeout(180)
def test_log_bounds_are_told_again_after_the_leader_was_lost(kafka_process: KafkaProcess) -> None:
    cluster = TestCluster("kafka", kafka_process.bootstrap_servers)
    source = Source(cluster.conf, cluster.topic("samples"), cluster.unique("group"))
    try:
        before = answer(source, within_s=60)  # a new broker's coordinator needs a moment, too
        kafka_process.kill()
        kafka_process.restart()  # every partition has a leader of a new epoch
        assert answer(source, within_s=60) == before
    finally:
        source.close()


def answer(source: Source, within_s: float) -> Survey:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return source.survey(range(4))
        except TransientFault:
            assert time.monotonic() < deadline, "the broker is back, and its answer is still not taken"
            time.sleep(0.2)
