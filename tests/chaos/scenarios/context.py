"""What a scenario gets: randomness from its seed, brokers of every kind, and deployments to do harm to."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.brokers.fixtures import TestCluster
from tests.brokers.jars import fetch_jars, what_is_missing
from tests.brokers.kafka_nodes import KafkaNodes
from tests.brokers.kafka_process import KafkaProcess, broker_to_harm
from tests.chaos.nursery import Nursery
from tests.chaos.proxy import Proxy
from tests.chaos.scenarios.registry import Skipped
from tests.chaos.scenarios.stage import Stage
from tests.deployment import Deployment

# A killed broker may register again only when the controller has given up its former self.
QUICK_BROKER = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


@dataclass
class Context:
    """One play of a scenario.

    Attributes:
        cluster: a running broker that is not to be harmed.
        artifact: the model.
        directory: for logs, checkpoints and brokers.
        seed: decides everything that is left to chance.
        nursery: forks workers, if there is one.
        faults: what was done so far, by kind.
    """

    cluster: TestCluster
    artifact: Path
    directory: Path
    seed: int
    nursery: Nursery | None = None
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @contextmanager
    def stage(self, *flags: str, cluster: TestCluster | None = None) -> Iterator[Stage]:
        """A deployment with traffic, whose workers are all gone at the end.

        Args:
            flags: of every worker.
            cluster: another broker than the unharmed one.
        """
        directory = Path(tempfile.mkdtemp(dir=self.directory, prefix="deployment-"))
        deployment = Deployment.create(cluster or self.cluster, self.artifact, directory, *flags)
        if self.nursery is not None:
            deployment.spawn = self.nursery.start
        with Stage(deployment, self.random, self.faults) as stage:
            yield stage

    @contextmanager
    def broker(self, proxied: int | None = None) -> Iterator[KafkaProcess]:
        """A broker of the scenario's own, to be killed and frozen."""
        _need_local_broker()
        directory = Path(tempfile.mkdtemp(dir=self.directory, prefix="broker-"))
        with broker_to_harm(fetch_jars(), directory, QUICK_BROKER, 512, proxied) as broker:
            yield broker

    @contextmanager
    def broker_behind_proxy(self) -> Iterator[tuple[TestCluster, Proxy]]:
        """A broker, and the proxy that workers started with `through(proxy)` reach it by."""
        with ExitStack() as stack:
            proxy = stack.enter_context(Proxy())
            broker = stack.enter_context(self.broker(proxied=proxy.port))
            proxy.upstream = broker.behind_proxy
            yield TestCluster("kafka", broker.bootstrap_servers), proxy

    @contextmanager
    def stage_behind_proxy(self, *flags: str) -> Iterator[tuple[Stage, Proxy]]:
        """A deployment whose workers reach a broker of its own through a proxy; all other clients go straight."""
        with self.broker_behind_proxy() as (cluster, proxy):
            through_proxy = ("--bootstrap-servers", f"127.0.0.1:{proxy.port}")
            with self.stage(*flags, *through_proxy, cluster=cluster) as stage:
                yield stage, proxy

    @contextmanager
    def three_brokers(self) -> Iterator[KafkaNodes]:
        """Three brokers, two of which must hold what is confirmed."""
        _need_local_broker()
        directory = Path(tempfile.mkdtemp(dir=self.directory, prefix="brokers-"))
        with KafkaNodes(fetch_jars(), directory) as nodes:
            yield nodes


def _need_local_broker() -> None:
    missing = what_is_missing()
    if missing is not None:
        raise Skipped(f"needs a broker of its own to harm: install {missing}")
