"""Three Apache Kafka nodes, each broker and controller: what one node cannot show, a leader that is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tests.brokers.kafka_process import START_S, KafkaProcess, new_cluster_id
from tests.brokers.waiting import wait_for_metadata

COUNT = 3
# Two of three replicas hold what is confirmed. A dead node is given up after a few seconds, and a lost leader is
# followed as soon as that.
SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "replica.lag.time.max.ms": "5000",
}


class KafkaNodes:
    """Three nodes that can be killed and brought back one by one.

    Args:
        jars: directory of Kafka's jars.
        directory: empty; for the nodes' logs.
        settings: added to those of a cluster of three.
    """

    def __init__(self, jars: Path, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        cluster_id = new_cluster_id()
        self.nodes = [
            KafkaProcess(jars, directory / f"node-{number}", heap_mb=384, cluster_id=cluster_id)
            for number in range(1, COUNT + 1)
        ]
        voters = ",".join(f"{n}@127.0.0.1:{node.controller_port}" for n, node in enumerate(self.nodes, 1))
        for number, node in enumerate(self.nodes, 1):
            own = {"node.id": str(number), "controller.quorum.voters": voters}
            node.settings.update(own | SETTINGS | dict(settings or {}))

    @property
    def bootstrap_servers(self) -> str:
        """All three."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def __enter__(self) -> KafkaNodes:
        try:
            for node in self.nodes:
                node.launch()
            self.wait_for_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()

    def wait_for_all(self, timeout_s: float = START_S) -> None:
        """Return when each node knows all three.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline = time.monotonic() + timeout_s
        for node in self.nodes:
            wait_for_metadata(node.bootstrap_servers, deadline, brokers=COUNT)
