"""What an operator, or retention, may do to a group's topics and offsets: the worker says what is refused, and why."""

from __future__ import annotations

import time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.chaos import traffic
from tests.chaos.checker import Rules
from tests.chaos.checker.hold import merged, read_inputs
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.registry import scenario
from tests.chaos.scenarios.stage import PARTITIONS, Stage
from tests.deployment import FEATURES
from worker.kafka.admin import BROKER_DEFAULT, Cluster


def settled(stage: Stage, count: int = 1000) -> None:
    """Everything is answered, and the worker has left."""
    stage.publish(count)
    stage.start()
    stage.settle()
    stage.stop()


def delete_before(stage: Stage, beyond: int) -> None:
    """Delete all records of the input but for those behind the committed offsets, and so many of them, too.

    The checker remembers them: it still has to compute what became of those that were answered.
    """
    stage.inputs = merged(read_inputs(stage.deployment, Rules.of(stage.deployment.flags)), stage.inputs)
    admin = AdminClient(stage.deployment.cluster.conf)
    topic, committed = stage.deployment.input_topic, stage.deployment.committed()
    places = [TopicPartition(topic, number, offset + beyond) for number, offset in enumerate(committed)]
    for future in admin.delete_records(places).values():
        future.result(30)
    stage.faults["records deleted"] += 1


def begin_anew(stage: Stage, begin: dict[int, int]) -> None:
    """The log begins here now, and so will all streams; what was deleted unanswered stays so."""
    committed = stage.deployment.committed()
    stage.inputs = [r for r in stage.inputs if not committed[r.partition] <= r.offset < begin[r.partition]]
    stage.anew(begin)


@scenario("input-deleted")
def input_deleted(context: Context) -> None:
    """Records that were not answered yet are deleted while no worker runs.

    Expected: exit code 3, with where the log begins and the policies that can be named. With on_lost_state=fresh the
    rest is answered, and every stream begins anew.
    """
    with context.stage(*QUICK) as stage:
        settled(stage)
        committed = stage.deployment.committed()
        stage.publish(400)
        delete_before(stage, beyond=5)
        for _ in range(2):  # the refusal has changed nothing
            stage.start()
            stage.ends(3, "the log begins at", "on_lost_state=rebuild", "on_lost_state=fresh")
        begin_anew(stage, {number: offset + 5 for number, offset in enumerate(committed)})
        stage.finish("--on-lost-state", "fresh", compare=False)


@scenario("input-deleted-below")
def input_deleted_below(context: Context) -> None:
    """Records below the committed offset are deleted, as retention does, and the checkpoints are at the offset.

    Expected: nobody notices.
    """
    with context.stage(*QUICK) as stage:
        settled(stage)
        delete_before(stage, beyond=0)
        stage.publish(400)
        stage.finish(compare=False)  # the samples are gone: an undisturbed worker could not answer them


@scenario("input-deleted-beneath-checkpoint")
def input_deleted_beneath_checkpoint(context: Context) -> None:
    """The log is deleted up to the committed offset, and the checkpoints are older than that: a gap between them.

    Expected: exit code 3. With on_lost_state=fresh the rest is answered, and every stream begins anew.
    """
    with context.stage("--poll-records", "200", "--commit-interval-ms", "20") as stage:  # a checkpoint only at the end
        settled(stage)
        stage.publish(400)
        stage.start()
        stage.settle()
        stage.kill()
        committed = stage.deployment.committed()
        delete_before(stage, beyond=0)
        stage.start()
        stage.ends(3, "the log begins at", "on_lost_state=fresh")
        stage.publish(400)
        stage.anew(dict(enumerate(committed)))
        stage.finish("--on-lost-state", "fresh", compare=False)


@scenario("input-deleted-running")
def input_deleted_running(context: Context) -> None:
    """Records that a running worker has not read yet are deleted beneath it.

    It is frozen meanwhile, or it would have read them. Expected: exit code 3, and what to do. With on_lost_state=fresh
    the rest is answered, and every stream begins anew.
    """
    with context.stage(*QUICK, "--kafka", "session.timeout.ms=30000") as stage:
        stage.publish(1000)
        worker = stage.start()
        stage.settle()
        committed = stage.deployment.committed()
        worker.freeze()
        stage.publish(20_000)
        delete_before(stage, beyond=3000)
        worker.thaw()
        stage.ends(3, "gone from the log", "on_lost_state")
        begin_anew(stage, {number: offset + 3000 for number, offset in enumerate(committed)})
        stage.finish("--on-lost-state", "fresh", compare=False)


@scenario("offsets-deleted")
def offsets_deleted(context: Context) -> None:
    """The group's committed offsets are deleted, or have expired, while no worker runs.

    Expected: exit code 3, with the policies that can be named. With on_lost_offsets=checkpoint it goes on at the
    checkpoint, which was taken at the last commit: nothing is lost or doubled.
    """
    with context.stage(*QUICK) as stage:
        settled(stage)
        group = stage.deployment.group_id
        admin = AdminClient(stage.deployment.cluster.conf)  # it must live until the answer is there
        with stage.watch.forgiving():
            admin.delete_consumer_groups([group])[group].result(30)
        context.faults["offsets deleted"] += 1
        for _ in range(2):
            stage.start()
            stage.ends(3, "no committed offset", "on_lost_offsets=checkpoint")
        stage.publish(400)
        stage.finish("--on-lost-offsets", "checkpoint")


@scenario("topic-recreated")
def topic_recreated(context: Context) -> None:
    """The input topic is deleted and created anew, with other records, while no worker runs.

    Expected: exit code 3, which names the topic and `cellstream state reset`, or the policy.
    """
    with context.stage(*QUICK) as stage:
        settled(stage)
        recreate(stage)
        stage.inputs.clear()
        stage.publish(3000)
        stage.start()
        stage.ends(3, "created anew")


@scenario("topic-recreated-running")
def topic_recreated_running(context: Context) -> None:
    """The input topic is deleted and created anew under a running worker.

    Expected: it ends with exit code 3 and says so; nothing of the new topic is answered with the old state.
    """
    with context.stage(*QUICK, "--kafka", "topic.metadata.refresh.interval.ms=1000") as stage:
        stage.publish(1000)
        stage.start()
        stage.settle()
        recreate(stage)
        answers = stage.answers
        stage.inputs.clear()
        stage.publish(3000)
        stage.ends(3)
        assert stage.answers == answers, "records of the new topic were answered with the state of the old one"


def recreate(stage: Stage) -> None:
    """Delete the input topic and create it under the same name."""
    cluster, topic = stage.deployment.cluster, stage.deployment.input_topic
    admin = AdminClient(cluster.conf)
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 60
    while topic in admin.list_topics(timeout=60).topics:
        assert time.monotonic() < deadline, f"{topic} is still there"
        time.sleep(0.1)
    time.sleep(1)
    Cluster(cluster.conf, timeout_s=60).create(topic, PARTITIONS, BROKER_DEFAULT, {"retention.ms": "-1"})
    stage.faults["topic recreated"] += 1


@scenario("partitions-added")
def partitions_added(context: Context) -> None:
    """The input topic gets two more partitions under a running worker, and samples come in them.

    Expected: the worker ends with exit code 3 as soon as it sees them, and names on_new_partitions. So does the next
    one. With on_new_partitions=continue everything is answered, the new partitions from their first record.
    """
    with context.stage(*QUICK, "--kafka", "topic.metadata.refresh.interval.ms=1000") as stage:
        stage.publish(1000)
        stage.start()
        stage.settle()
        add_partitions(stage)
        stage.ends(3, "partitions", "on_new_partitions=continue")
        stage.publish(1000)
        stage.start()
        stage.ends(3, "partitions", "on_new_partitions=continue")
        stage.finish("--on-new-partitions", "continue")


def add_partitions(stage: Stage) -> None:
    """Two more partitions for the input topic."""
    topic = stage.deployment.input_topic
    admin = AdminClient(stage.deployment.cluster.conf)  # it must live until the answer is there
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 2)])[topic].result(30)
    stage.grown(PARTITIONS + 2)
    stage.faults["partitions added"] += 1


@scenario("partitions-added-latest")
def partitions_added_latest(context: Context) -> None:
    """As partitions-added, of a group that began with start_from=latest.

    Expected: the policy does not reach the new partitions: they are answered from their first record.
    """
    with context.stage(*QUICK, "--start-from", "latest") as stage:
        stage.start()
        stage.until(lambda: stage.deployment.committed() == [0] * PARTITIONS, "a group that has begun")
        stage.publish(1000)
        stage.settle()
        stage.stop()
        add_partitions(stage)
        stage.publish(1000)
        stage.finish("--on-new-partitions", "continue")


@scenario("other-model")
def other_model(context: Context) -> None:
    """Another artifact is deployed.

    Expected: exit code 3, with the policies that can be named; with on_model_change=rebuild it goes on.
    """
    import keras

    from worker.artifact import write_artifact

    with context.stage(*QUICK) as stage:
        settled(stage)
        layers = [keras.layers.Input((None, len(FEATURES))), keras.layers.GRU(4), keras.layers.Dense(1, "sigmoid")]
        other = context.directory / "other"
        write_artifact(keras.Sequential(layers), other, features=FEATURES, classes=("positive",))
        stage.deployment.artifact = other
        context.faults["other model"] += 1
        stage.start()
        stage.ends(3, "on_model_change=rebuild")
        stage.publish(400)
        # The numbers are those of two models, one after the other.
        stage.finish("--on-model-change", "rebuild", compare=False, numbers=False)


@scenario("nothing-there")
def nothing_there(context: Context) -> None:
    """A topic or the artifact does not exist.

    Expected: exit code 3, which names what is missing and the command that makes it.
    """
    with context.stage() as stage:
        topic = stage.deployment.output_topic
        stage.deployment.output_topic = stage.deployment.cluster.unique("nowhere")
        stage.start()
        stage.ends(3, stage.deployment.output_topic, "cellstream topics")
        stage.deployment.output_topic = topic
        stage.deployment.artifact = context.directory / "nowhere"
        stage.start()
        stage.ends(3, "manifest.json", "cellstream train")
        context.faults["nothing there"] += 2


@scenario("hostile")
def hostile(context: Context) -> None:
    """One record in ten is malformed, huge, deeply nested or hostile; meanwhile the worker is killed twice.

    Expected: each of them is one dead letter with its coordinates; the rest of its stream goes on as if it had not
    been there.
    """
    assert len(traffic.HOSTILE) > 10
    with context.stage(*QUICK, "--max-record-bytes", "250000") as stage:
        with stage.flowing(400, hostile=0.1):
            for _ in range(2):
                stage.start()
                stage.progress(context.random.randint(200, 600))
                stage.kill()
        stage.finish()
        refused = sum(record.refused is True for record in stage.inputs)
        context.faults["hostile record"] += refused
        assert refused > 0
