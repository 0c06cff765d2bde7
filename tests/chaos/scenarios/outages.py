"""A broker dies, freezes, or loses its leaders, one after the other."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

from tests.brokers.fixtures import TestCluster
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.rebalances import PROTOCOLS
from tests.chaos.scenarios.registry import add


def broker_killed(context: Context, *protocol: str) -> None:
    """`kill -9` of the only broker, which comes back on its log after some seconds; three times. Two workers.

    Expected: the workers wait, and go on; one that ends says so with 1, and is started again. Nothing is lost or
    doubled.
    """
    with context.broker() as broker:
        cluster = TestCluster("kafka", broker.bootstrap_servers)
        with context.stage(*QUICK, *protocol, cluster=cluster) as stage:
            with stage.flowing():
                stage.start("worker-0")
                stage.start("worker-1")
                for _ in range(3):
                    stage.supervised(context.random.randint(100, 800))
                    broker.kill()
                    context.faults["broker kill -9"] += 1
                    time.sleep(context.random.uniform(0, 6))
                    broker.restart()
                    stage.supervised(200)
            stage.finish()


def broker_frozen(context: Context, *protocol: str) -> None:
    """The only broker is frozen for 2 s, and for 15 s: longer than sessions and transactions last. Two workers.

    Expected: the workers wait, and go on; one that ends says so with 1. Nothing is lost or doubled.
    """
    with context.broker() as broker:
        cluster = TestCluster("kafka", broker.bootstrap_servers)
        with context.stage(*QUICK, *protocol, cluster=cluster) as stage:
            with stage.flowing():
                stage.start("worker-0")
                stage.start("worker-1")
                for seconds in (2, 15):
                    stage.supervised(context.random.randint(100, 800))
                    broker.freeze()
                    context.faults["broker SIGSTOP"] += 1
                    time.sleep(seconds)
                    broker.thaw()
                    stage.supervised(200)
            stage.finish()


def leaders_lost(context: Context, *protocol: str) -> None:
    """Of three brokers one after the other is killed (-9) and comes back; min.insync.replicas=2. Two workers.

    So every partition, the group and the transactions lose their leader. Expected: the workers follow
    the leaders. Nothing is lost or doubled.
    """
    with context.three_brokers() as brokers:
        cluster = TestCluster("kafka", brokers.bootstrap_servers)
        with context.stage(*QUICK, *protocol, cluster=cluster) as stage:
            with stage.flowing(200):
                stage.start("worker-0")
                stage.start("worker-1")
                for node in brokers.nodes:
                    stage.supervised(context.random.randint(100, 500))
                    node.kill()
                    context.faults["leader kill -9"] += 1
                    time.sleep(context.random.uniform(3, 6))
                    node.restart()
                    brokers.wait_for_all()
                    time.sleep(6)  # until its replicas are in sync again: two dead of three lose by definition
                    stage.supervised(100)
            stage.finish()


def _under(protocol: str, name: str, play: Callable[..., None]) -> None:
    words = f"{inspect.getdoc(play)}\nThe group's protocol is {protocol}."
    variant = name if protocol == "cooperative" else f"{name}:{protocol}"
    add(variant, lambda context: play(context, *PROTOCOLS[protocol]), words, long=True)


for _protocol in ("cooperative", "kip-848"):
    _under(_protocol, "broker-killed", broker_killed)
    _under(_protocol, "broker-frozen", broker_frozen)
    _under(_protocol, "leaders-lost", leaders_lost)
