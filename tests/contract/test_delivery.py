"""The delivery contracts: restart, rebalance, and whose records are read at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Input, Output, check
from tests.chaos.traffic import publish
from tests.deployment import Deployment, Reader, output, read_all, until, until_read

pytestmark = pytest.mark.slow

RECORDS = 4_000
FORGETS_OFFSETS = "librdkafka's mock stores no offsets of a transaction, so every worker starts at the beginning"
deliveries = pytest.mark.parametrize(
    "delivery",
    [pytest.param("exactly_once", marks=pytest.mark.embedded_lacks(FORGETS_OFFSETS)), "at_least_once"],
)


def until_answered(reader: Reader, inputs: list[Input], *workers: Process) -> None:
    """Wait until every sample has an answer; by `at_least_once` a count would take a second answer for another."""
    wanted = {(record.partition, record.offset) for record in inputs if record.is_sample}
    until(lambda: reader.sources() >= wanted, f"answers to {len(wanted)} samples", *workers)


def hold(deployment: Deployment, inputs: list[Input], delivery: str) -> None:
    """One output per sample, in order; by `at_least_once` a sample may be answered again, in the same words."""
    outputs = list(map(output, read_all(deployment.cluster, deployment.output_topic)))
    if delivery == "at_least_once":
        first: dict[tuple[int, int], Output] = {}
        for one in outputs:
            partition, offset = json.loads(one.value)["source"]
            assert first.setdefault((partition, offset), one).value == one.value
        outputs = list(first.values())
    violations = check(inputs, outputs)
    assert not violations, f"{len(violations)} violations, first: {violations[:10]}"


@deliveries
def test_restarted_worker_resumes_where_the_last_one_ended(
    cluster: TestCluster, artifact: Path, tmp_path: Path, delivery: str
) -> None:
    deployment = Deployment.create(cluster, artifact, tmp_path, "--delivery", delivery)
    inputs: list[Input] = []
    with Reader(cluster, deployment.output_topic) as reader:
        for _ in range(2):
            inputs += publish(cluster, deployment.input_topic, RECORDS, streams=50, seed=3)
            with deployment.worker() as worker:
                until_answered(reader, inputs, worker)
                assert worker.stop() == 0, worker.tail()
    # The second half goes on in the middle of the first one's sequences, so the checker sees a lost state.
    hold(deployment, inputs, delivery)


@deliveries
def test_partitions_move_between_two_workers_with_their_state(
    cluster: TestCluster, artifact: Path, tmp_path: Path, delivery: str
) -> None:
    deployment = Deployment.create(cluster, artifact, tmp_path, "--delivery", delivery)
    inputs: list[Input] = []

    def publish_and_wait(*workers: Process) -> None:
        inputs.extend(publish(cluster, deployment.input_topic, RECORDS, streams=50, seed=3))
        until_answered(reader, inputs, *workers)

    with Reader(cluster, deployment.output_topic) as reader, deployment.worker("a") as first:
        publish_and_wait(first)
        with deployment.worker("b") as second:
            until(lambda: owns(deployment, "b"), "the second to own partitions", first, second)
            publish_and_wait(first, second)
            assert second.stop() == 0, second.tail()
        publish_and_wait(first)
        assert first.stop() == 0, first.tail()
    hold(deployment, inputs, delivery)


def owns(deployment: Deployment, instance_id: str) -> bool:
    """Whether a worker has said that it owns partitions; its log is all that tells."""
    return any("assign" in log.read_text() for log in deployment.directory.glob(f"*-{instance_id}.log"))


@pytest.mark.embedded_lacks("librdkafka's mock does not mark aborted records")
def test_samples_of_an_aborted_transaction_are_never_answered(
    cluster: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(cluster, artifact, tmp_path)
    producer = Producer(cluster.conf | {"transactional.id": cluster.unique("upstream")})
    producer.init_transactions(60)
    for value, end in ((9.0, producer.abort_transaction), (1.0, producer.commit_transaction)):
        producer.begin_transaction()
        for number in range(5):
            features = json.dumps({"features": [value, number, 0]}).encode()
            producer.produce(deployment.input_topic, features, key=b"stream", partition=0)
        producer.flush(60)
        end(60)
    with Reader(cluster, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, 5, worker)
        assert worker.stop() == 0, worker.tail()
    events = [json.loads(message.value()) for message in read_all(cluster, deployment.output_topic)]
    assert [event["timestep"] for event in events] == [0, 1, 2, 3, 4]
    assert min(event["source"][1] for event in events) >= 5
