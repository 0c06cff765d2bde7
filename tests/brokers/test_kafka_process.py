"""Laws of the broker that other tests stand on: it survives what is done to it, and nothing survives the tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import KafkaProcess
from tests.brokers.ports import free_ports
from tests.brokers.process import Process
from worker.kafka.admin import Cluster


@pytest.mark.broker
@pytest.mark.slow
def test_acknowledged_records_survive_kill_and_restart_at_the_same_address(kafka_process: KafkaProcess) -> None:
    conf = {"bootstrap.servers": kafka_process.bootstrap_servers, "log_level": "0"}
    Cluster(conf).create("kept", 1, 1, {})
    identity = Cluster(conf).topics(["kept"])["kept"].topic_id
    producer = Producer(conf | {"acks": "all"})
    for number in range(100):
        producer.produce("kept", str(number).encode())
    assert producer.flush(60) == 0

    kafka_process.kill()
    kafka_process.restart()

    assert Cluster(conf).topics(["kept"])["kept"].topic_id == identity
    assert read(conf, "kept", 100) == [str(number).encode() for number in range(100)]


def test_no_connection_is_given_a_brokers_port_by_chance() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for _ in range(200):  # a client that connects to a port of this range may be given that port itself
        with socket.socket() as outgoing:
            outgoing.bind(("127.0.0.1", 0))
            assert outgoing.getsockname()[1] > max(ports) or outgoing.getsockname()[1] < min(ports)


@pytest.mark.broker
@pytest.mark.slow
def test_frozen_broker_answers_nothing_and_a_thawed_one_goes_on(kafka_process: KafkaProcess) -> None:
    conf = {"bootstrap.servers": kafka_process.bootstrap_servers, "log_level": "0"}
    kafka_process.freeze()
    with pytest.raises(KafkaException):
        Producer(conf).list_topics(timeout=1)
    kafka_process.thaw()
    assert Cluster(conf).cluster_id()


@pytest.mark.broker
def test_read_committed_hides_aborted_records(kafka: TestCluster) -> None:
    topic = kafka.topic("aborts", partitions=1)
    producer = Producer(kafka.conf | {"transactional.id": topic})
    producer.init_transactions(60)
    for value, commit in ((b"first", True), (b"aborted", False), (b"second", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(60)
        producer.commit_transaction(60) if commit else producer.abort_transaction(60)
    assert read(kafka.conf, topic, 2) == [b"first", b"second"]


def read(conf: dict[str, str], topic: str, count: int) -> list[bytes]:
    """The first `count` committed values of partition 0."""
    consumer = Consumer(conf | {"group.id": "reader", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 90
    while len(values) < count and time.monotonic() < deadline:
        values += [message.value() for message in consumer.consume(count - len(values), 0.2) if not message.error()]
    consumer.close()
    return values


STARTS_A_SLEEPER = """
import pathlib, signal, sys, time
from tests.brokers.process import Process
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
print(Process([sys.executable, "-c", "import time; time.sleep(600)"], pathlib.Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_process_ends_with_the_one_that_started_it_however_that_ends(ending: signal.Signals, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_SLEEPER, tmp_path / "log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=root,
        text=True,
    )
    assert starter.stdout is not None
    sleeper = int(starter.stdout.readline())
    assert runs(sleeper)
    starter.send_signal(ending)
    try:
        starter.communicate(timeout=60)
    finally:
        starter.kill()
    deadline = time.monotonic() + 60
    while runs(sleeper) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(sleeper)


def runs(pid: int) -> bool:
    """Whether a process is there and not a zombie that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stopping_a_process_that_ignores_it_kills_it(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    process = Process([sys.executable, "-c", stubborn], tmp_path / "log")
    deadline = time.monotonic() + 60
    while "deaf" not in process.tail() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.stop(timeout_s=0.2) == -signal.SIGKILL
    assert not runs(process.pid)
