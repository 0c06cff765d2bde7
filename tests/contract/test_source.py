"""The source opens a partition exactly where it is told, however soon after the assignment, and keeps it there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import ConsumerGroupState, Producer
from confluent_kafka.admin import AdminClient

from tests.brokers.fixtures import TestCluster
from tests.brokers.kafka_process import KafkaProcess
from worker.kafka.source import Source

RECORDS, PARTITIONS = 1000, 4
PROTOCOLS = {
    "cooperative": {"session.timeout.ms": "6000"},
    "eager": {"session.timeout.ms": "6000", "partition.assignment.strategy": "range"},
    "KIP-848": {"group.protocol": "consumer"},
}


class Member:
    """A worker without its work: opens every partition at an offset and notes what comes."""

    def __init__(self, cluster: TestCluster, topic: str, group: str, protocol: str, **conf: str) -> None:
        self.waiting: list[int] = []
        self.offsets: dict[int, list[int]] = {}
        self.source = Source(cluster.conf | PROTOCOLS[protocol] | conf, topic, group)
        self.source.subscribe(self)

    def on_assign(self, partitions: Sequence[int]) -> None:
        self.waiting += partitions

    def on_revoke(self, partitions: Sequence[int]) -> None:
        self.waiting = [partition for partition in self.waiting if partition not in partitions]
        for partition in partitions:
            self.offsets.pop(partition, None)

    on_lost = on_revoke

    def turn(self, offset: int, wait_s: float) -> None:
        """One turn of a main loop; a partition is opened `wait_s` after its turn has come."""
        for batch in self.source.poll(300, 0.001):
            self.offsets[batch.partition] += batch.offsets
        if self.waiting:
            time.sleep(wait_s)
            if self.source.open(self.waiting[0], offset):
                self.offsets[self.waiting.pop(0)] = []

    def read(self) -> int:
        """Records so far of the partitions that it has now."""
        return sum(map(len, self.offsets.values()))


@pytest.fixture(scope="module")
def topic(kafka: TestCluster) -> str:
    name = kafka.topic("opened", partitions=PARTITIONS)
    producer = Producer(kafka.conf)
    for number in range(RECORDS * PARTITIONS):
        producer.produce(name, b"record", partition=number % PARTITIONS)
    assert producer.flush(60) == 0
    return name


def turn_until(
    condition: Callable[[], bool], offset: int, *members: Member, wait_s: float = 0.0, within_s: float = 120.0
) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, [member.offsets for member in members]
        for member in members:
            member.turn(offset, wait_s)


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_partition_opened_at_any_moment_after_its_assignment_gives_every_record(
    kafka: TestCluster, topic: str, protocol: str
) -> None:
    for trial in range(15):
        member = Member(kafka, topic, kafka.unique("group"), protocol)
        wanted = {partition: list(range(300, RECORDS)) for partition in range(PARTITIONS)}
        turn_until(lambda: member.read() >= 700 * PARTITIONS, 300, member, wait_s=trial % 5 / 1000)  # noqa: B023  # at once
        assert member.offsets == wanted
        member.source.close()


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_partition_opened_again_or_by_another_member_gives_every_record_again(
    kafka: TestCluster, topic: str, protocol: str
) -> None:
    group = kafka.unique("group")
    first = Member(kafka, topic, group, protocol)
    turn_until(lambda: first.read() >= 300 * PARTITIONS, 300, first)
    first.source.close_partitions()  # as after an abort
    first.waiting = list(first.offsets)
    first.offsets = {}
    turn_until(lambda: first.read() >= 600 * PARTITIONS, 400, first)
    assert first.offsets == {partition: list(range(400, RECORDS)) for partition in range(PARTITIONS)}

    second = Member(kafka, topic, group, protocol)
    turn_until(lambda: len(second.offsets) == 2 and second.read() == 500 * 2, 500, first, second)
    assert not second.offsets.keys() & first.offsets.keys()
    second.source.close()
    turn_until(lambda: len(first.offsets) == PARTITIONS and not first.waiting, 500, first)
    taken_over = [offsets for offsets in first.offsets.values() if not offsets or offsets[0] == 500]
    turn_until(lambda: all(offsets[-1:] == [RECORDS - 1] for offsets in first.offsets.values()), 500, first)
    assert len(taken_over) >= 2
    assert all(offsets == list(range(500, RECORDS)) for offsets in taken_over)
    first.source.close()


STATIC_MEMBER = """
import ast, sys
from confluent_kafka import Consumer
member = Consumer(ast.literal_eval(sys.argv[1]))
member.subscribe([sys.argv[2]], on_assign=lambda *_: print("assigned", flush=True))
while True:
    member.poll(0.1)
"""


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["cooperative", "KIP-848"])
def test_static_member_takes_the_place_of_a_killed_one_of_its_name(
    kafka: TestCluster, topic: str, protocol: str
) -> None:
    group, name = kafka.unique("group"), {"group.instance.id": "worker-0"}
    conf = {**kafka.conf, **PROTOCOLS[protocol], **name, "group.id": group}
    if protocol == "cooperative":
        conf["partition.assignment.strategy"] = "cooperative-sticky"
    command = [sys.executable, "-c", STATIC_MEMBER, repr(conf), topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as former:
        assert former.stdout is not None
        assert former.stdout.readline() == "assigned\n"
        former.kill()
    member = Member(kafka, topic, group, protocol, **name)
    # The next protocol keeps the name until the session of the killed one is over, 45 s by a broker's default.
    turn_until(lambda: member.read() >= RECORDS * PARTITIONS, 0, member, within_s=90)
    member.source.close()


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_static_member_finishes_the_rebalance_that_its_predecessor_left_half_done(
    kafka: TestCluster, topic: str
) -> None:
    group, admin = kafka.unique("group"), AdminClient(kafka.conf)
    conf = {"session.timeout.ms": "60000"}

    def owned() -> set[int]:
        found = admin.describe_consumer_groups([group])[group].result(30)
        entries = [entry for member in found.members for entry in member.assignment.topic_partitions]
        stable = found.state == ConsumerGroupState.STABLE and len(found.members) == 2
        return {entry.partition for entry in entries} if stable else set(range(PARTITIONS))

    former = Member(kafka, topic, group, "cooperative", **conf, **{"group.instance.id": "worker-0"})
    turn_until(lambda: former.read() >= RECORDS * PARTITIONS, 0, former)
    other = Member(kafka, topic, group, "cooperative", **conf, **{"group.instance.id": "worker-1"})
    # From here on the former is as good as dead: it gave up nothing yet and asks for no second round.
    turn_until(lambda: len(owned()) < PARTITIONS, 0, other)
    successor = Member(kafka, topic, group, "cooperative", **conf, **{"group.instance.id": "worker-0"})
    turn_until(lambda: other.read() + successor.read() >= RECORDS * PARTITIONS, 0, other, successor, within_s=50)
    assert other.offsets.keys() ^ successor.offsets.keys() == set(range(PARTITIONS))
    for member in (other, successor, former):
        member.source.close()


@pytest.mark.broker
@pytest.mark.slow
def test_a_member_whose_partitions_were_lost_is_in_the_group_again_with_its_next_assignment(
    kafka_process: KafkaProcess,
) -> None:
    kafka = TestCluster("kafka", kafka_process.bootstrap_servers)
    soon = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "300"}
    member = Member(kafka, kafka.topic("opened"), kafka.unique("group"), "cooperative", **soon)
    assert not member.source.joined
    turn_until(lambda: member.source.joined, 0, member)
    kafka_process.freeze()
    turn_until(lambda: not member.source.joined, 0, member)
    assert not member.source.assigned
    kafka_process.thaw()
    turn_until(lambda: member.source.joined, 0, member)
    member.source.close()
