"""`cellstream rekey` on a real broker: every record once, in order, under its stream ID, whatever kills it."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Message, Producer

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.deployment import Reader, read_all, until, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RECORDS, STREAMS, PARTITIONS = 4_200, 40, 4
START_MS = 1_700_000_000_000
SLOW = ("--poll-records", "50", "--commit-interval-ms", "5")  # so that a kill comes in the middle


class Rekeying:
    """Topics, and processes that copy the one into the other."""

    def __init__(self, cluster: TestCluster, directory: Path, *flags: str) -> None:
        self.cluster = cluster
        self.directory = directory
        self.flags = flags
        self.raw = cluster.topic("raw", PARTITIONS)
        self.samples = cluster.topic("samples", PARTITIONS)
        self.dead_letters = cluster.topic("dead-letters", PARTITIONS)
        self.group_id = cluster.unique("group")

    def start(self, *flags: str, instance_id: str = "one") -> Process:
        command = [Path(sys.executable).with_name("cellstream"), "rekey", "--from-topic", self.raw]
        command += ["--bootstrap-servers", self.cluster.bootstrap_servers, "--input-topic", self.samples]
        command += ["--dead-letter-topic", self.dead_letters, "--group-id", self.group_id, "--instance-id", instance_id]
        command += ["--kafka", "session.timeout.ms=2000", "--kafka", "heartbeat.interval.ms=300"]
        return Process([*command, *self.flags, *flags], self.directory / f"{instance_id}.log")

    def copy_to_the_end(self, *flags: str) -> str:
        """Run with --until-end and return what it wrote."""
        process = self.start("--until-end", *flags)
        assert process.wait(120) == 0, process.tail()
        return process.tail()


def publish(cluster: TestCluster, topic: str, count: int, random: Random) -> None:
    """Records keyed by a number of their own, in any partition, some of them without a stream ID.

    Those of one stream come in one partition: between two there is no order to keep. They come in transactions, one of
    which is aborted: their markers take offsets.
    """
    producer = Producer(cluster.conf | {"transactional.id": cluster.unique("upstream")})
    producer.init_transactions(60)
    for begin in range(0, count, count // 3):
        producer.begin_transaction()
        for number in range(begin, min(count, begin + count // 3)):
            stream = random.randrange(STREAMS)
            headers = [("device", f"s{stream}".encode()), ("number", str(number).encode())]
            producer.produce(
                topic,
                None if random.random() < 0.02 else json.dumps({"features": [number, 0, 1]}).encode(),
                str(number).encode() if random.random() < 0.5 else None,
                partition=stream % PARTITIONS,
                headers=headers[1:] if random.random() < 0.02 else headers,
                timestamp=START_MS + number,
            )
            producer.poll(0)
        producer.commit_transaction(60)
    producer.begin_transaction()
    producer.produce(topic, b"aborted", b"aborted", partition=0)
    producer.flush(60)
    producer.abort_transaction(60)


def headers_of(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])


def coordinates(message: Message) -> tuple[int, int]:
    said = headers_of(message)
    return int(said["__streams.errors.partition"]), int(said["__streams.errors.offset"])


def hold(rekeying: Rekeying) -> tuple[int, int]:
    """Every record of the raw topic is there once, as it was, in order; returns how many copies and dead letters."""
    cluster = rekeying.cluster
    raw, copies = read_all(cluster, rekeying.raw), read_all(cluster, rekeying.samples)
    good = [message for message in raw if "device" in headers_of(message)]
    ordered: dict[bytes, list[tuple[object, ...]]] = defaultdict(list)
    for message in good:
        said = headers_of(message)["device"]
        ordered[said].append((message.value(), message.headers(), message.timestamp()[1]))
    found: dict[bytes, list[tuple[object, ...]]] = defaultdict(list)
    for message in copies:
        found[message.key()].append((message.value(), message.headers(), message.timestamp()[1]))
        assert message.partition() == murmur2(message.key()) % PARTITIONS
    assert found == ordered
    letters = read_all(cluster, rekeying.dead_letters)
    refused = {(message.partition(), message.offset()): message for message in raw if message not in good}
    assert sorted(map(coordinates, letters)) == sorted(refused)
    for letter in letters:
        original, said = refused[coordinates(letter)], headers_of(letter)
        assert (letter.key(), letter.value()) == (original.key(), original.value())
        assert said["cellstream.reason"] == b"missing_stream_id"
        assert said["__streams.errors.topic"] == rekeying.raw.encode()
        assert said["number"] == headers_of(original)["number"]
    return len(copies), len(letters)


def murmur2(key: bytes) -> int:
    """Kafka's own partitioner hash (`org.apache.kafka.common.utils.Utils.murmur2`), made positive as Java does it."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return (h ^ h >> 15) & 0x7FFFFFFF


@pytest.mark.timeout(300)
def test_every_record_is_copied_once_and_in_order_through_kill_minus_nine(kafka: TestCluster, tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    random = Random(seed)
    rekeying = Rekeying(kafka, tmp_path, "--stream-id-from", "header:device", *SLOW)
    publish(kafka, rekeying.raw, RECORDS, random)
    with Reader(kafka, rekeying.samples) as reader:
        for kill in (1, 2):
            process = rekeying.start()
            until_read(reader, random.randint(1, RECORDS // 3) + (kill - 1) * RECORDS // 3, process)
            assert process.kill() == -9
        said = rekeying.copy_to_the_end()
    copied, letters = hold(rekeying)
    assert copied + letters == RECORDS, said
    assert letters > 0
    # What was copied is known: there is nothing left to do.
    assert json.loads(rekeying.copy_to_the_end("--json").splitlines()[-1])["copied"] == 0
    assert hold(rekeying) == (copied, letters)


@pytest.mark.timeout(180)
def test_sigterm_commits_what_was_copied_and_the_rest_is_left_to_the_next(kafka: TestCluster, tmp_path: Path) -> None:
    rekeying = Rekeying(kafka, tmp_path, "--stream-id-from", "header:device", *SLOW)
    publish(kafka, rekeying.raw, RECORDS // 2, Random(1))
    process = rekeying.start()
    with Reader(kafka, rekeying.samples) as reader:
        until_read(reader, 1, process)
        process.terminate()
        assert process.wait(60) == 0, process.tail()
        publish(kafka, rekeying.raw, RECORDS // 2, Random(2))
    rekeying.copy_to_the_end()
    assert sum(hold(rekeying)) == RECORDS


@pytest.mark.timeout(180)
def test_a_crash_in_the_first_transaction_asks_nothing(kafka: TestCluster, tmp_path: Path) -> None:
    rekeying = Rekeying(kafka, tmp_path, "--stream-id-from", "header:device")
    publish(kafka, rekeying.raw, RECORDS // 2, Random(4))
    # Everything in one poll, and a commit interval in which it can be killed before it ends.
    process = rekeying.start("--commit-interval-ms", "1000")
    until(lambda: "opened" in process.tail(), "partitions", process)
    process.kill()
    rekeying.copy_to_the_end()
    assert sum(hold(rekeying)) == RECORDS // 2


@pytest.mark.timeout(180)
def test_several_share_the_partitions_and_end_when_all_of_them_are_copied(kafka: TestCluster, tmp_path: Path) -> None:
    rekeying = Rekeying(kafka, tmp_path, "--stream-id-from", "header:device", *SLOW, "--until-end")
    publish(kafka, rekeying.raw, RECORDS, Random(3))
    both = [rekeying.start(instance_id=name) for name in ("one", "two")]
    for process in both:
        assert process.wait(120) == 0, process.tail()
        assert sum(hold(rekeying)) == RECORDS, "it ended before the other had copied its part"


@pytest.mark.timeout(180)
def test_what_it_cannot_know_is_refused_and_says_what_to_do(kafka: TestCluster, tmp_path: Path) -> None:
    rekeying = Rekeying(kafka, tmp_path, "--stream-id-from", "field:device", "--until-end")
    producer = Producer(kafka.conf)
    producer.produce(rekeying.raw, b'{"device":"a","features":[1,2,3]}')
    producer.produce(rekeying.samples, b'{"features":[1,2,3]}', b"somebody else's")
    assert producer.flush(60) == 0

    refused = rekeying.start()
    assert refused.wait(60) == 3
    assert "--append" in refused.tail()
    rekeying.copy_to_the_end("--append")
    assert sorted(message.key() for message in read_all(kafka, rekeying.samples)) == [b"a", b"somebody else's"]

    missing = rekeying.start("--dead-letter-topic", kafka.unique("nowhere"))
    assert missing.wait(60) == 3
    assert "missing" in missing.tail()
    same = rekeying.start("--from-topic", rekeying.samples)
    assert same.wait(60) == 2
    assert "three different topics" in same.tail()
