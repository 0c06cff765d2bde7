"""Play scenarios outside of pytest: one broker that is not harmed, one warm process, one artifact for all of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.brokers.choice import choose, real_broker
from tests.brokers.fixtures import TestCluster
from tests.brokers.jars import fetch_jars
from tests.brokers.kafka_process import broker_to_harm
from tests.chaos.nursery import Nursery
from tests.chaos.proxy import Proxy
from tests.chaos.scenarios import Context, Scenario
from tests.chaos.scenarios.context import QUICK_BROKER
from tests.chaos.soak import Goal, Soak
from tests.deployment import make_artifact


@contextmanager
def playing(directory: Path) -> Iterator[Callable[[Scenario, int], Counter[str]]]:
    """Yield a function that plays a scenario from a seed and returns the faults it did, by kind.

    Args:
        directory: for everything that is left: logs, checkpoints, brokers' logs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    print(f"kafka: {choose().words}", flush=True)
    with ExitStack() as stack:
        nursery = stack.enter_context(Nursery(directory))
        servers = stack.enter_context(real_broker(directory / "kafka"))
        artifact = make_artifact(directory / "artifact")
        cluster = TestCluster("kafka", servers)

        def play(scenario: Scenario, seed: int) -> Counter[str]:
            place = Path(tempfile.mkdtemp(dir=directory, prefix=f"{scenario.name.replace(':', '-')}-"))
            context = Context(cluster, artifact, place, seed, nursery)
            scenario.play(context)
            return context.faults

        yield play


@contextmanager
def soaking(directory: Path, seed: int, goal: Goal, cold: bool = False) -> Iterator[Soak]:
    """A soak on a broker of its own, behind a proxy.

    Args:
        directory: for what broken laws leave.
        seed: decides what is left to chance.
        goal: when it is over.
        cold: every worker imports TensorFlow by itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        nursery = None if cold else stack.enter_context(Nursery(directory))
        proxy = stack.enter_context(Proxy())
        broker = stack.enter_context(broker_to_harm(fetch_jars(), directory / "kafka", QUICK_BROKER, 768, proxy.port))
        proxy.upstream = broker.behind_proxy
        artifact = make_artifact(directory / "artifact")
        yield Soak(broker, proxy, nursery, artifact, directory, seed, goal)
