"""Faults other than a crash: a zombie, a double, and inputs, offsets and models that no longer fit the state."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Input, Watch, hold
from tests.chaos.traffic import publish
from tests.deployment import FEATURES, Deployment, limit_messages, until, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

RECORDS = 4_000
QUICK = ("--checkpoint-interval-s", "0.3", "--commit-interval-ms", "20", "--poll-records", "200")


def samples(inputs: list[Input]) -> int:
    return sum(record.is_sample for record in inputs)


def ended(worker: Process, code: int, *words: str, within_s: float = 120) -> None:
    """A worker ends by itself with this exit code and says why."""
    assert worker.wait(timeout_s=within_s) == code, worker.tail()
    said = " ".join(worker.tail(20_000).split())
    assert all(word in said for word in words), said


def run_to_the_end(deployment: Deployment, inputs: list[Input], *flags: str) -> Watch:
    with Watch(deployment) as watch, deployment.worker("worker-0", *flags) as worker:
        until_read(watch, samples(inputs), worker)
        assert worker.stop() == 0, worker.tail()
    return watch


@pytest.fixture
def settled(kafka: TestCluster, artifact: Path, tmp_path: Path) -> tuple[Deployment, list[Input]]:
    """A group that has answered everything and left."""
    deployment = Deployment.create(kafka, artifact, tmp_path, *QUICK)
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50)
    run_to_the_end(deployment, inputs)
    return deployment, inputs


def test_a_frozen_worker_that_comes_back_publishes_nothing_twice(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path, *QUICK)
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50)
    with (
        Watch(deployment) as watch,
        deployment.worker("worker-0") as zombie,
        deployment.worker("worker-1") as peer,
    ):
        until_read(watch, samples(inputs) // 10, zombie, peer)
        zombie.freeze()  # far beyond its session time-out
        more = publish(kafka, deployment.input_topic, RECORDS, streams=50, seed=2)
        # The streams of the second batch go on where the first left them, so the laws are checked over both.
        until_read(watch, samples(inputs) + samples(more), peer)
        zombie.thaw()
        last = publish(kafka, deployment.input_topic, 200, streams=50, seed=3)
        until_read(watch, samples(inputs) + samples(more) + samples(last), peer)
        time.sleep(1)  # long enough for the zombie's own commit to arrive, if it had one
        assert peer.stop() == 0, peer.tail()
        assert zombie.stop() in (0, 1), zombie.tail()
    assert hold(deployment, inputs + more + last, watch=watch) == []


def test_of_two_workers_with_one_name_the_first_is_fenced_and_says_so(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path, *QUICK)
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50)
    with Watch(deployment) as watch, deployment.worker() as first:
        until_read(watch, samples(inputs), first)
        with deployment.worker() as second:
            until(lambda: "assigned" in second.tail(), "the second worker's partitions", second)
            more = publish(kafka, deployment.input_topic, RECORDS, streams=50, seed=2)
            until_read(watch, samples(inputs) + samples(more), second)
            ended(first, 1, "instance_id worker-0 fence each other")
            assert second.stop() == 0, second.tail()
    assert hold(deployment, inputs + more, watch=watch) == []


def test_records_deleted_beneath_the_state_are_refused_until_a_policy_is_named(
    settled: tuple[Deployment, list[Input]],
) -> None:
    deployment, inputs = settled
    admin = AdminClient(deployment.cluster.conf)
    ends = ends_of(admin, deployment.input_topic)
    more = publish(deployment.cluster, deployment.input_topic, 400, streams=50, seed=2)
    beyond = [TopicPartition(deployment.input_topic, p, end + 1) for p, end in ends.items()]
    for future in admin.delete_records(beyond).values():
        future.result()
    with deployment.worker() as worker:
        ended(worker, 3, "the log begins at", "on_lost_state=fresh")
    left = [record for record in more if record.offset > ends[record.partition]]
    with Watch(deployment) as watch, deployment.worker("worker-0", "--on-lost-state", "fresh") as worker:
        until_read(watch, samples(inputs) + samples(left), worker)
        assert worker.stop() == 0, worker.tail()
    begin = {partition: end + 1 for partition, end in ends.items()}
    assert hold(deployment, inputs + left, watch=watch, anew=begin) == []


def test_vanished_offsets_are_refused_until_a_policy_is_named(settled: tuple[Deployment, list[Input]]) -> None:
    deployment, inputs = settled
    admin = AdminClient(deployment.cluster.conf)
    admin.delete_consumer_groups([deployment.group_id])[deployment.group_id].result()
    with deployment.worker() as worker:
        ended(worker, 3, "no committed offset", "on_lost_offsets=checkpoint")
    more = publish(deployment.cluster, deployment.input_topic, 400, streams=50, seed=2)
    watch = run_to_the_end(deployment, inputs + more, "--on-lost-offsets", "checkpoint")
    assert hold(deployment, inputs + more, watch=watch) == []


def test_lost_checkpoints_are_rebuilt_from_a_log_that_reaches_back(settled: tuple[Deployment, list[Input]]) -> None:
    deployment, inputs = settled
    for file in deployment.checkpoints.rglob("*.h5"):
        file.unlink()
    more = publish(deployment.cluster, deployment.input_topic, 400, streams=50, seed=2)
    watch = run_to_the_end(deployment, inputs + more)
    assert hold(deployment, inputs + more, watch=watch) == []


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(settled: tuple[Deployment, list[Input]], damage: str) -> None:
    deployment, inputs = settled
    damages: dict[str, Callable[[bytes], bytes]] = {
        "truncate": lambda content: content[: len(content) // 2],
        "flip": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "empty": lambda content: b"",
    }
    for partition in range(4):
        newest = max(deployment.checkpoints.rglob(f"{partition}/*.h5"))
        newest.write_bytes(damages[damage](newest.read_bytes()))
    more = publish(deployment.cluster, deployment.input_topic, 400, streams=50, seed=2)
    watch = run_to_the_end(deployment, inputs + more)
    assert hold(deployment, inputs + more, watch=watch) == []


def test_another_model_is_refused_until_a_policy_is_named(
    settled: tuple[Deployment, list[Input]], tmp_path: Path
) -> None:
    import keras

    from worker.artifact import write_artifact

    deployment, inputs = settled
    layers = [keras.layers.Input((None, len(FEATURES))), keras.layers.GRU(4), keras.layers.Dense(1, "sigmoid")]
    write_artifact(keras.Sequential(layers), tmp_path / "other", features=FEATURES, classes=("positive",))
    deployment.artifact = tmp_path / "other"
    with deployment.worker() as worker:
        ended(worker, 3, "on_model_change=rebuild")
    more = publish(deployment.cluster, deployment.input_topic, 400, streams=50, seed=2)
    with Watch(deployment) as watch, deployment.worker("worker-0", "--on-model-change", "rebuild") as worker:
        until_read(watch, samples(inputs) + samples(more), worker)
        assert worker.stop() == 0, worker.tail()
    assert hold(deployment, inputs + more, watch=watch, numbers=False) == []  # those of two models


def test_a_topic_that_refuses_events_for_a_while_aborts_transactions_and_ends_no_worker(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    flags = ("--commit-interval-ms", "500", "--poll-records", "50")  # the refusal comes between two polls
    deployment = Deployment.create(kafka, artifact, tmp_path, *flags)
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50)
    with Watch(deployment) as watch, deployment.worker() as worker:
        until_read(watch, 200, worker)
        limit_messages(kafka, deployment.output_topic, 300)
        seeds = itertools.count(2)

        def refused() -> bool:
            """The broker takes a moment to know of its new limit."""
            inputs.extend(publish(kafka, deployment.input_topic, 400, streams=50, seed=next(seeds)))
            return "aborted" in worker.log.read_text(errors="replace")

        until(refused, "an aborted transaction", worker)
        limit_messages(kafka, deployment.output_topic, 1_000_000)
        until_read(watch, samples(inputs), worker)
        assert worker.stop() == 0, worker.tail()
    assert hold(deployment, inputs, watch=watch) == []


def test_a_missing_topic_and_a_missing_artifact_are_told_with_the_remedy(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path)
    deployment.output_topic = kafka.unique("nowhere")
    with deployment.worker() as worker:
        ended(worker, 3, deployment.output_topic, "cellstream topics")
    deployment.artifact = tmp_path / "nowhere"
    with deployment.worker() as worker:
        ended(worker, 3, "manifest.json", "cellstream train")


def ends_of(admin: AdminClient, topic: str) -> dict[int, int]:
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(4)}
    return {where.partition: future.result().offset for where, future in admin.list_offsets(asked).items()}
