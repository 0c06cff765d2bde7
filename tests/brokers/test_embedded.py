"""What the embedded broker can do, and exactly what it cannot."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from tests.brokers.fixtures import TestCluster
from worker.errors import FatalFault
from worker.kafka.admin import Cluster
from worker.kafka.embedded import PARTITIONS, EmbeddedBroker, is_embedded


def test_topics_have_the_fixed_number_of_partitions(embedded: TestCluster) -> None:
    topic = embedded.topic("made")
    described = Cluster(embedded.conf).topics([topic, "never-made"])
    assert list(described) == [topic]
    assert (described[topic].partitions, described[topic].topic_id, described[topic].settings) == (PARTITIONS, "", {})


def test_looking_at_a_topic_does_not_create_it(cluster: TestCluster) -> None:
    absent = cluster.unique("absent")
    for _ in range(2):
        assert Cluster(cluster.conf).topics([absent]) == {}


def test_records_keys_headers_and_times_reach_another_process(embedded: TestCluster) -> None:
    topic = embedded.topic("crossing")
    code = (
        "import sys; from confluent_kafka import Producer; p = Producer({'bootstrap.servers': sys.argv[1]});"
        "p.produce(sys.argv[2], b'value', key=b'key', headers=[('h', b'1')], partition=2, timestamp=1234); p.flush(60)"
    )
    subprocess.run([sys.executable, "-c", code, embedded.bootstrap_servers, topic], check=True, timeout=180)
    (message,) = read(embedded, topic, partition=2, count=1)
    assert (message.key(), message.value(), message.headers()) == (b"key", b"value", [("h", b"1")])
    assert (message.timestamp()[1], message.offset()) == (1234, 0)


def test_plain_commits_are_kept_for_the_group(cluster: TestCluster) -> None:
    group, position = cluster.unique("group"), TopicPartition(cluster.topic("samples"), 1, 7)
    fill(cluster, position.topic, partition=1, count=9)
    for _ in range(2):
        consumer = Consumer(cluster.conf | {"group.id": group})
        consumer.commit(offsets=[position], asynchronous=False)
        assert consumer.committed([position], timeout=60)[0].offset == 7
        consumer.close()


@pytest.mark.embedded_lacks("librdkafka's mock accepts TxnOffsetCommit and stores nothing")
def test_offsets_of_a_transaction_are_kept_for_the_group(cluster: TestCluster) -> None:
    position = TopicPartition(cluster.topic("samples"), 1, 7)
    fill(cluster, position.topic, partition=1, count=9)
    consumer = Consumer(cluster.conf | {"group.id": cluster.unique("group")})
    producer = transactional(cluster)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 10)
    producer.commit_transaction(60)
    assert consumer.committed([position], timeout=60)[0].offset == 7
    consumer.close()


@pytest.mark.embedded_lacks("librdkafka's mock does not mark aborted records")
def test_aborted_records_are_hidden_from_read_committed(cluster: TestCluster) -> None:
    topic = cluster.topic("aborts")
    producer = transactional(cluster)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value, partition=0)
        producer.flush(60)
        end(60)
    assert [message.value() for message in read(cluster, topic, partition=0, count=1)] == [b"committed"]


@pytest.mark.embedded_lacks("librdkafka's mock does not fence the former producer of a transactional.id")
def test_former_producer_of_a_transactional_id_is_fenced(cluster: TestCluster) -> None:
    topic, name = cluster.topic("fenced"), cluster.unique("tx")
    zombie = transactional(cluster, name)
    zombie.begin_transaction()
    transactional(cluster, name)
    with pytest.raises(KafkaException):
        produce_and_commit(zombie, topic)


def test_one_who_closes_it_or_never_reaches_it_is_told(embedded: TestCluster) -> None:
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        assert is_embedded(Cluster({"bootstrap.servers": servers}).cluster_id())
    broker.close()
    with pytest.raises(FatalFault, match=r"no answer from .* within 1 s: .*Connect.*check bootstrap_servers"):
        Cluster({"bootstrap.servers": servers, "log_level": "0"}, timeout_s=1).cluster_id()
    with pytest.raises(FatalFault, match="topic late"):
        broker.create_topics("late")


def transactional(cluster: TestCluster, name: str | None = None) -> Producer:
    producer = Producer(cluster.conf | {"transactional.id": name or cluster.unique("tx")})
    producer.init_transactions(60)
    return producer


def produce_and_commit(producer: Producer, topic: str) -> None:
    producer.produce(topic, b"late", partition=0)
    producer.commit_transaction(60)


def fill(cluster: TestCluster, topic: str, partition: int, count: int) -> None:
    producer = Producer(cluster.conf)
    for number in range(count):
        producer.produce(topic, str(number).encode(), partition=partition)
    assert producer.flush(60) == 0


def read(cluster: TestCluster, topic: str, partition: int, count: int) -> list[Message]:
    """The first `count` committed messages of one partition."""
    consumer = Consumer(cluster.conf | {"group.id": cluster.unique("reader"), "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, partition, 0)])
    messages: list[Message] = []
    deadline = time.monotonic() + 60
    while len(messages) < count and time.monotonic() < deadline:
        messages += [message for message in consumer.consume(count - len(messages), 0.2) if not message.error()]
    consumer.close()
    return messages
