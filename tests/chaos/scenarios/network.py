"""Replies that are lost or late, and connections that are cut, above all around a commit."""

from __future__ import annotations

import time

from tests.chaos.proxy import Action, Api, Proxy
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.registry import add, scenario
from tests.chaos.scenarios.stage import Stage

# A lost reply is missed after this long; a session outlives it.
IMPATIENT = ("--kafka", "socket.timeout.ms=2500", "--kafka", "session.timeout.ms=6000")
CONSUMER_PROTOCOL = ("--kafka", "group.protocol=consumer", "--kafka", "socket.timeout.ms=2500")
# The client waits for the answer to a JoinGroup as long as a rebalance may take: max.poll.interval.ms and 3 s more.
SHORT_REBALANCE = ("--kafka", "max.poll.interval.ms=8000")
ACTIONS: dict[Action, str] = {
    "drop": "reaches the broker, and its reply is lost",
    "delay": "is answered 3 s late",
    "cut-before": "is lost with its connection before the broker has it",
    "cut-after": "reaches the broker, and the connection is cut instead of a reply",
}
TRANSACTION = (Api.AddPartitionsToTxn, Api.AddOffsetsToTxn, Api.TxnOffsetCommit, Api.EndTxn, Api.Produce)
BY_THE_WAY = (Api.Fetch, Api.Heartbeat)
AT_THE_START = (Api.InitProducerId, Api.FindCoordinator, Api.JoinGroup, Api.SyncGroup)
DELAY_S = 3.0


def hit(stage: Stage, proxy: Proxy, action: Action, api: Api, times: int = 1) -> None:
    """Let a fault happen to the next requests of a kind, and wait until it has.

    A worker that had ended just before, of the fault before, is started again: nobody else might ask.
    """
    rule = proxy.add(action, api, times=times, seconds=DELAY_S)
    stage.until_supervised(lambda: rule.fired >= times, f"{times} {api.name} requests")
    stage.faults[f"{action} {api.name}"] += times


def _during_work(action: Action, api: Api) -> None:
    def play(context: Context) -> None:
        flags = CONSUMER_PROTOCOL if api is Api.ConsumerGroupHeartbeat else IMPATIENT
        with context.stage_behind_proxy(*QUICK, *flags) as (stage, proxy):
            with stage.flowing():
                stage.start()
                for _ in range(3):
                    stage.supervised(context.random.randint(50, 400))
                    hit(stage, proxy, action, api)
                stage.supervised(100)
            stage.finish()

    words = (
        f"Three times, a worker's {api.name} {ACTIONS[action]}.\n\nExpected: the worker asks again or aborts. Nothing "
        "is lost or doubled."
    )
    add(f"proxy:{action}:{api.name}", play, words, long=True)


for _action in ACTIONS:
    for _api in (*TRANSACTION, *BY_THE_WAY, Api.ConsumerGroupHeartbeat):
        _during_work(_action, _api)


def _at_the_start(action: Action, api: Api) -> None:
    def play(context: Context) -> None:
        with context.stage_behind_proxy(*QUICK, *IMPATIENT, *SHORT_REBALANCE) as (stage, proxy):
            with stage.flowing():
                stage.start()
                stage.supervised(context.random.randint(50, 400))
                stage.kill()
                rule = proxy.add(action, api, times=2, seconds=DELAY_S)
                stage.start()
                # A late answer to the only SyncGroup is taken: there need not be a second.
                stage.until_supervised(lambda: rule.fired >= 1, f"a {api.name} request")
                stage.supervised(100)
                stage.faults[f"{action} {api.name}"] += rule.fired
            stage.finish()

    words = (
        f"A worker was killed; when it starts again, its first {api.name} are hit, two at most: each {ACTIONS[action]}."
        "\n\nExpected: the worker asks again. Nothing is lost or doubled."
    )
    add(f"proxy:{action}:{api.name}", play, words, long=True)


for _action in ACTIONS:
    for _api in AT_THE_START:
        _at_the_start(_action, _api)


@scenario("network", long=True)
def network(context: Context) -> None:
    """Two workers behind a proxy that does all of it, in random order.

    Replies of every kind of request are lost, late, or cut off; all connections are cut at once; for some seconds
    nothing passes. Expected: the outputs are, byte for byte, what an undisturbed worker answers.
    """
    kinds: list[tuple[Action, Api]] = [(action, api) for action in ACTIONS for api in (*TRANSACTION, *BY_THE_WAY)]
    context.random.shuffle(kinds)
    with context.stage_behind_proxy(*QUICK, *IMPATIENT) as (stage, proxy):
        with stage.flowing(200):
            stage.start("worker-0")
            stage.start("worker-1")
            stage.supervised(100)
            for number, (action, api) in enumerate(kinds):
                hit(stage, proxy, action, api)
                stage.supervised(context.random.randint(1, 100))
                if number % 7 == 3:
                    proxy.cut()
                    stage.faults["all connections cut"] += 1
                if number % 14 == 5:
                    proxy.black_hole(context.random.uniform(1, 8))
                    stage.faults["black hole"] += 1
                stage.revive()
            proxy.clear()
        time.sleep(1)
        stage.revive()
        stage.finish()


@scenario("black-hole", long=True)
def black_hole(context: Context) -> None:
    """Nothing passes between two workers and their broker for 3 s, and for 13 s; connections stay open.

    That is longer than sessions and transactions last. Expected: the workers wait, and go on; one that ends says so
    with 1. Nothing is lost or doubled.
    """
    with context.stage_behind_proxy(*QUICK, *IMPATIENT) as (stage, proxy):
        with stage.flowing(200):
            stage.start("worker-0")
            stage.start("worker-1")
            for seconds in (3, 13):
                stage.supervised(context.random.randint(50, 400))
                proxy.black_hole(seconds)
                stage.faults["black hole"] += 1
                time.sleep(seconds)
                time.sleep(2)
                stage.revive()
        stage.finish()
