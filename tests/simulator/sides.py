"""The two sides of the contract: confluent_kafka on a real broker, and the simulator."""

from __future__ import annotations

import time
from functools import partial
from itertools import count

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from tests.brokers.fixtures import TestCluster
from tests.simulator.admin import SimAdmin
from tests.simulator.cluster import Cluster
from tests.simulator.consumer import SimConsumer
from tests.simulator.host import Host
from tests.simulator.log import Log
from tests.simulator.producer import SimProducer
from tests.simulator.side import Side


def real(kafka: TestCluster) -> Side:
    """confluent_kafka."""
    return Side(
        Consumer,
        Producer,
        AdminClient,
        kafka.conf,
        lambda partitions: kafka.topic("simulator", partitions),
        kafka.unique,
        time.monotonic,
        time.sleep,
    )


def simulated() -> Side:
    """The simulator, on a cluster of its own."""
    cluster, numbers = Cluster(), count()
    host = Host(cluster, "program")

    def topic(partitions: int) -> str:
        name = f"topic-{next(numbers)}"
        cluster.topics[name] = [Log() for _ in range(partitions)]
        return name

    return Side(
        partial(SimConsumer, host),
        partial(SimProducer, host),
        partial(SimAdmin, host),
        {},
        topic,
        lambda name: f"{name}-{next(numbers)}",
        lambda: cluster.now,
        cluster.advance,
    )
