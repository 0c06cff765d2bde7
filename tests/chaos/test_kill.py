"""Exactly once through `kill -9`, on a real broker, read with read_committed from outside.

Thousands of records are on their way when the worker dies at random moments; what the topics hold at the end must
equal, byte for byte, what an undisturbed worker published of the same input.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import OFFSET_INVALID

from tests.brokers.fixtures import TestCluster
from tests.chaos.checker import Input, Output, check
from tests.chaos.traffic import publish
from tests.deployment import Deployment, Reader, output, read_all, until_read

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
) -> list[Output]:
    """What an undisturbed worker publishes."""
    topic, inputs = traffic
    deployment = Deployment.create(kafka, artifact, tmp_path_factory.mktemp("reference"), input_topic=topic)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, samples(inputs), worker, within_s=90)
        assert worker.stop() == 0, worker.tail()
    outputs = list(map(output, read_all(kafka, deployment.output_topic)))
    assert check(inputs, outputs) == []
    return outputs


def samples(inputs: list[Input]) -> int:
    return sum(record.is_sample for record in inputs)


def hold_to_the_laws(deployment: Deployment, inputs: list[Input], reference: list[Output], seen: list[Output]) -> None:
    """Everything that must be true of the topics when the work is done and no worker runs."""
    outputs = list(map(output, read_all(deployment.cluster, deployment.output_topic)))
    violations = check(inputs, outputs, reference)
    assert not violations, f"seed {SEED}: {len(violations)} violations, first: {violations[:10]}"
    assert set(seen) <= set(outputs), "a concurrent reader has seen what is not there"
    assert read_all(deployment.cluster, deployment.dead_letter_topic) == []
    assert deployment.committed() == ends(inputs)


def ends(inputs: list[Input]) -> list[int]:
    """The next offset of each partition after all records."""
    return [max(record.offset for record in inputs if record.partition == partition) + 1 for partition in range(4)]


@pytest.mark.timeout(240)
def test_outputs_are_exact_after_kill_minus_nine_at_random_moments(
    kafka: TestCluster, artifact: Path, traffic: tuple[str, list[Input]], reference: list[Output], tmp_path: Path
) -> None:
    topic, inputs = traffic
    random = Random(SEED)
    deployment = Deployment.create(kafka, artifact, tmp_path, *SLOW, input_topic=topic)
    killed_at: list[int] = []
    with Reader(kafka, deployment.output_topic) as reader:
        for _ in range(KILLS):
            left = samples(inputs) - len(reader)
            worker = deployment.start_worker()
            until_read(reader, len(reader) + random.randint(1, max(1, left // 2)), worker)
            time.sleep(random.uniform(0, 0.03))
            worker.kill()
            killed_at.append(len(reader))
        with deployment.worker() as worker:
            until_read(reader, samples(inputs), worker)
            assert worker.stop() == 0, worker.tail()
        seen = reader.outputs()
    print(f"seed {SEED}: killed with {killed_at} of {samples(inputs)} outputs published")
    assert killed_at[-1] < samples(inputs), "the last kill came after the work"
    hold_to_the_laws(deployment, inputs, reference, seen)


@pytest.mark.timeout(120)
def test_sigterm_leaves_within_ten_seconds_with_a_checkpoint_at_the_committed_offset(
    kafka: TestCluster, artifact: Path, traffic: tuple[str, list[Input]], reference: list[Output], tmp_path: Path
) -> None:
    topic, inputs = traffic
    deployment = Deployment.create(kafka, artifact, tmp_path, *SLOW, input_topic=topic)
    with Reader(kafka, deployment.output_topic) as reader:
        for moment in (RECORDS // 4, samples(inputs)):
            worker = deployment.start_worker()
            until_read(reader, moment, worker)
            worker.terminate()
            assert worker.wait(timeout_s=10) == 0, worker.tail()
            assert newest_checkpoints(deployment) == deployment.committed()
            published = list(map(output, read_all(kafka, deployment.output_topic)))
            assert sources(published) == samples_below(deployment.committed(), inputs)
        seen = reader.outputs()
    hold_to_the_laws(deployment, inputs, reference, seen)


def newest_checkpoints(deployment: Deployment) -> list[int]:
    """The highest `next_offset` in the names of each partition's checkpoints; -1001 as for a missing commit."""
    group, topic = deployment.group_id, deployment.input_topic
    folders = [deployment.checkpoints / group / topic / str(partition) for partition in range(4)]
    return [
        max((int(path.name.partition("-")[0]) for path in folder.glob("*.h5")), default=OFFSET_INVALID)
        for folder in folders
    ]


def sources(outputs: list[Output]) -> list[tuple[int, int]]:
    """The input records that the outputs answer."""
    return sorted(tuple(json.loads(published.value)["source"]) for published in outputs)


def samples_below(offsets: list[int], inputs: list[Input]) -> list[tuple[int, int]]:
    """The samples that a group which committed these offsets has answered."""
    return [
        (record.partition, record.offset)
        for record in inputs
        if record.is_sample and record.offset < offsets[record.partition]
    ]
