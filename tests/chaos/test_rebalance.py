"""Rebalances while records flow, under every group protocol: partitions move with their state, nothing twice."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Watch, hold
from tests.chaos.traffic import publish
from tests.deployment import Deployment, until, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

RECORDS = 12_000
SEED = int(os.environ.get("REBALANCE_SEED", "0")) or time.time_ns() % 1_000_000
PROTOCOLS = {
    "cooperative": (),
    "eager": ("--kafka", "partition.assignment.strategy=range"),
    "kip-848": ("--kafka", "group.protocol=consumer"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_that_come_and_go_answer_each_sample_once_and_in_order(
    kafka: TestCluster, artifact: Path, tmp_path: Path, protocol: str
) -> None:
    random = Random(SEED)
    flags = ("--checkpoint-interval-s", "0.5", "--commit-interval-ms", "20", "--poll-records", "100")
    deployment = Deployment.create(kafka, artifact, tmp_path, *flags, *PROTOCOLS[protocol])
    inputs = publish(kafka, deployment.input_topic, RECORDS // 3, streams=100)
    workers: dict[str, Process] = {}
    with Watch(deployment) as watch:
        try:
            for step in range(6):
                name = f"worker-{step % 3}"
                if name in workers and random.random() < 0.7:
                    leaving = workers.pop(name)
                    leaving.kill() if random.random() < 0.5 else leaving.terminate()
                    leaving.stop()
                elif name not in workers:
                    workers[name] = deployment.start_worker(name)
                inputs += publish(kafka, deployment.input_topic, RECORDS // 9, streams=100, seed=step + 2)
                time.sleep(random.uniform(1, 4))  # a rebalance may be under way, or be over: both are wanted
            if not workers:
                workers["worker-9"] = deployment.start_worker("worker-9")
            until_read(watch, sum(record.is_sample for record in inputs), *workers.values())
            for worker in workers.values():  # before that one of them may know no SIGTERM
                until(lambda worker=worker: "started" in worker.log.read_text(errors="replace"), "the start", worker)
        finally:
            codes = [worker.stop() for worker in workers.values()]
    assert set(codes) <= {0}, [worker.tail() for worker in workers.values()]
    violations = hold(deployment, inputs, watch=watch)
    assert not violations, f"seed {SEED}: {violations[:3]}"
