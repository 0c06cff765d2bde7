"""Every alert is fired once for real: the fault is caused, and a Prometheus on the shipped rules says that it fires.

The rules run on a faster clock, see `faster`; the workers, the broker and the faults are real ones. `make test-alerts`
runs this, other runs do not: most of the minutes go by waiting until a condition has held for long enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from tests.brokers.kafka_process import KafkaProcess
from tests.deploy.pages import page
from tests.deploy.scene import FACTOR, PARTITIONS, Record, Scene, fires, sample
from tests.deployment import limit_messages

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

LONGEST_S = 2 * 15 * 60 / FACTOR  # until a condition has filled its window and has then held for long enough
SMALL = ("--max-streams-per-partition", "100")


@fires()
def test_nobody_is_called_while_two_workers_answer_as_they_should(scene: Scene) -> None:
    scene.start("worker-0")
    scene.start("worker-1")
    with scene.flowing():
        enough = scene.rounds() + LONGEST_S
        scene.until(lambda: scene.rounds() >= enough, "rounds of evaluation")
        scene.until(lambda: not scene.pending(), "a round without a pending alert")
    assert scene.counted("cellstream_probabilities_total") > 0
    scene.nothing_else_has_fired()


@fires("CellstreamNoWorkers")
def test_workers_that_discovery_no_longer_finds_are_missed(scene: Scene) -> None:
    scene.start()
    scene.prometheus.scrape()  # of none
    scene.until_firing()


@fires("CellstreamWorkerNotReady", "CellstreamWorkerDown")
def test_a_worker_that_waits_for_a_frozen_one_of_its_group_is_not_ready(scene: Scene) -> None:
    frozen = scene.start("worker-0", "--kafka", "session.timeout.ms=300000")
    frozen.freeze()
    waiting = scene.start("worker-1", ready=False)
    scene.until_firing()
    assert "waiting for an assignment" in page(waiting, "ready")[1]


@fires("CellstreamWorkerNotReady", "CellstreamCheckpointStoreDown")
def test_a_worker_whose_partitions_cannot_be_restored_is_not_ready(scene: Scene) -> None:
    lose_store(scene)
    worker = scene.start(ready=False)
    scene.until_firing()
    assert "to be restored" in page(worker, "ready")[1]


@fires("CellstreamWorkerNotReady")
def test_a_worker_that_no_longer_reaches_its_broker_is_not_ready(scene: Scene, kafka_process: KafkaProcess) -> None:
    worker = scene.start()
    scene.publish(100)
    scene.until(lambda: scene.counted("cellstream_records_total") == 100, "answers")
    kafka_process.freeze()
    scene.until_firing()
    assert "waiting for an assignment" in page(worker, "ready")[1]
    kafka_process.thaw()
    scene.until(lambda: scene.firing() == set(), "the end of the alarm")


@fires("CellstreamStalled")
def test_records_behind_a_transaction_that_nobody_ends_stall_a_worker(scene: Scene) -> None:
    scene.start()
    scene.publish(400)
    with open_transaction(scene):
        scene.publish(400)
        scene.until_firing()


@fires("CellstreamLagGrows")
def test_a_worker_that_is_too_small_for_its_load_falls_behind(scene: Scene) -> None:
    scene.start("worker-0", "--poll-records", "1")
    with scene.flowing(20_000):
        scene.until_firing()


@fires("CellstreamCheckpointStoreDown", "CellstreamCheckpointOld", "CellstreamRetentionNear")
@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_store_that_takes_nothing_calls_at_once_then_for_its_age_then_for_the_log_that_will_not_reach_back(
    scene: Scene, from_the_start: bool
) -> None:
    if from_the_start:
        scene.deployment.checkpoints.touch()  # a file, in which nothing can be written, and nothing was
    scene.start()
    with scene.flowing():
        if not from_the_start:
            scene.until(lambda: scene.counted("cellstream_checkpoint_seconds_count") >= PARTITIONS, "checkpoints")
            lose_store(scene)
        for alert in ("CellstreamCheckpointStoreDown", "CellstreamCheckpointOld", "CellstreamRetentionNear"):
            scene.until_firing(alert)
        scene.until_firing()


@fires("CellstreamTransactionsAborted")
def test_an_output_topic_that_refuses_events_again_and_again_aborts_transactions(scene: Scene) -> None:
    scene.start()
    with scene.flowing():
        scene.until_firing(meanwhile=lambda: refuse_once(scene))


@fires("CellstreamDeadLetters")
def test_one_bad_record_in_ten_is_told(scene: Scene) -> None:
    scene.start()
    with scene.flowing(record=lambda number: sample(number) if number % 10 else sample(number, value=b"not JSON")):
        scene.until_firing()


@fires("CellstreamStreamsNearLimit", "CellstreamStreamsEvicted")
def test_a_partition_that_fills_up_is_told_before_it_forgets_streams_and_when_it_does(scene: Scene) -> None:
    scene.start("worker-0", *SMALL)
    scene.publish(95, in_one_partition)
    scene.until_firing("CellstreamStreamsNearLimit")
    assert scene.have_fired() == {"CellstreamStreamsNearLimit"}
    scene.publish(10, in_one_partition)
    scene.until_firing()


@fires("CellstreamLatencyBudgetBurnsFast", "CellstreamLatencyBudgetBurnsSlowly")
def test_a_third_of_the_events_late_burns_the_budget_fast(scene: Scene) -> None:
    scene.start()
    with scene.flowing(record=lambda number: sample(number, late=number % 3 == 0)):
        scene.until_firing()


@fires("CellstreamLatencyBudgetBurnsSlowly")
def test_one_event_in_ten_late_burns_the_budget_slowly(scene: Scene) -> None:
    scene.start()
    with scene.flowing(record=lambda number: sample(number, late=number % 10 == 0)):
        scene.until_firing()


def in_one_partition(number: int) -> Record:
    """A stream of its own for each record."""
    return sample(number, key=f"own-{number}".encode(), partition=0)


def lose_store(scene: Scene) -> None:
    """From now on every access to the checkpoints is an error: they are a link that leads to itself."""
    checkpoints = scene.deployment.checkpoints
    if checkpoints.exists():
        checkpoints.rename(checkpoints.with_name("lost"))
    checkpoints.symlink_to(checkpoints)


def refuse_once(scene: Scene) -> None:
    """Let the output topic take nothing until a transaction is aborted for it, then anything for a few commits."""
    for most_bytes, counter, times in ((100, "transaction_aborts_total", 1), (1_000_000, "commit_seconds_count", 4)):
        name = f"cellstream_{counter}"
        enough = scene.counted(name) + times
        limit_messages(scene.deployment.cluster, scene.deployment.output_topic, most_bytes)
        scene.until(lambda name=name, enough=enough: scene.counted(name) >= enough, name)


@contextmanager
def open_transaction(scene: Scene) -> Iterator[None]:
    """A producer leaves one open in every partition of the input topic."""
    conf = {"transactional.id": f"{scene.deployment.group_id}-producer", "transaction.timeout.ms": 600_000}
    producer = Producer(scene.deployment.cluster.conf | conf)
    producer.init_transactions(60)
    producer.begin_transaction()
    for partition in range(PARTITIONS):
        producer.produce(scene.deployment.input_topic, **sample(partition, partition=partition))
    assert producer.flush(60) == 0
    yield
    producer.abort_transaction(60)
