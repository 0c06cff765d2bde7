"""Exactly once through `kill -9`, on a real broker, read with read_committed from outside.

Thousands of records are on their way when the worker dies at random moments; what the topics hold at the end must
equal, byte for byte, what an undisturbed worker published of the same input.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import OFFSET_INVALID

from tests.brokers.fixtures import TestCluster
from tests.chaos.checker import Input, Reference, Watch, hold
from tests.chaos.traffic import publish
from tests.deployment import Deployment, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RECORDS = int(os.environ.get("KILL_RECORDS", "100000"))
KILLS = int(os.environ.get("KILL_KILLS", "4"))
SEED = int(os.environ.get("KILL_SEED", "0")) or time.time_ns() % 1_000_000  # printed; set it to see a failure again

# Small polls and short transactions, so that a kill finds the work at many different points.
SLOW = ("--poll-records", "500", "--commit-interval-ms", "20", "--checkpoint-interval-s", "0.5")


@pytest.fixture(scope="module")
def traffic(kafka: TestCluster) -> tuple[str, list[Input]]:
    """An input topic with all its records."""
    topic = kafka.topic("samples")
    return topic, publish(kafka, topic, RECORDS)


@pytest.fixture(scope="module")
def reference(
    kafka: TestCluster, artifact: Path, traffic: tuple[str, list[Input]], tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    """What an undisturbed worker leaves."""
    topic, inputs = traffic
    deployment = Deployment.create(kafka, artifact, tmp_path_factory.mktemp("reference"), input_topic=topic)
    with Watch(deployment) as watch, deployment.worker() as worker:
        until_read(watch, samples(inputs), worker, within_s=200)
        assert worker.stop() == 0, worker.tail()
    assert hold(deployment, inputs, watch=watch) == []
    return Reference.of(deployment)


def samples(inputs: list[Input]) -> int:
    return sum(record.is_sample for record in inputs)


@pytest.mark.timeout(600)
def test_outputs_are_exact_after_kill_minus_nine_at_random_moments(
    kafka: TestCluster, artifact: Path, traffic: tuple[str, list[Input]], reference: Reference, tmp_path: Path
) -> None:
    topic, inputs = traffic
    random = Random(SEED)
    deployment = Deployment.create(kafka, artifact, tmp_path, *SLOW, input_topic=topic)
    killed_at: list[int] = []
    with Watch(deployment) as watch:
        for _ in range(KILLS):
            left = samples(inputs) - len(watch)
            worker = deployment.start_worker()
            until_read(watch, len(watch) + random.randint(1, max(1, left // 2)), worker)
            time.sleep(random.uniform(0, 0.03))
            worker.kill()
            killed_at.append(len(watch))
        with deployment.worker() as worker:
            until_read(watch, samples(inputs), worker)
            assert worker.stop() == 0, worker.tail()
    print(f"seed {SEED}: killed with {killed_at} of {samples(inputs)} outputs published")
    assert killed_at[-1] < samples(inputs), "the last kill came after the work"
    violations = hold(deployment, inputs, watch=watch, reference=reference)
    assert not violations, f"seed {SEED}: {violations[:3]}"


@pytest.mark.timeout(600)
def test_sigterm_leaves_within_ten_seconds_with_a_checkpoint_at_the_committed_offset(
    kafka: TestCluster, artifact: Path, traffic: tuple[str, list[Input]], reference: Reference, tmp_path: Path
) -> None:
    topic, inputs = traffic
    deployment = Deployment.create(kafka, artifact, tmp_path, *SLOW, input_topic=topic)
    with Watch(deployment) as watch:
        for moment in (RECORDS // 4, samples(inputs)):
            worker = deployment.start_worker()
            until_read(watch, moment, worker)
            worker.terminate()
            assert worker.wait(timeout_s=10) == 0, worker.tail()
            assert newest_checkpoints(deployment) == deployment.committed()
            assert hold(deployment, inputs, complete=False, numbers=False) == []  # all below is answered, none above
    assert hold(deployment, inputs, watch=watch, reference=reference) == []


def newest_checkpoints(deployment: Deployment) -> list[int]:
    """The highest `next_offset` in the names of each partition's checkpoints; -1001 as for a missing commit."""
    group, topic = deployment.group_id, deployment.input_topic
    folders = [deployment.checkpoints / group / topic / str(partition) for partition in range(4)]
    return [
        max((int(path.name.partition("-")[0]) for path in folder.glob("*.h5")), default=OFFSET_INVALID)
        for folder in folders
    ]
