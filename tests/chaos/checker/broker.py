"""Which transactions are open: asked of every broker in Kafka's own protocol.

The Python client has no call for it, so two requests are written out here. `ListTransactions` (key 66) is the
coordinators' view: transactions that were begun and neither committed nor aborted. `DescribeProducers` (key 61) is the
view of the partitions' leaders: producers whose records wait for the end of their transaction; it shows those, too,
that a coordinator knows nothing of any more, and which would keep readers of committed records waiting for ever.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient

LIST_TRANSACTIONS, DESCRIBE_PRODUCERS = 66, 61
SETTLED = ("Empty", "CompleteCommit", "CompleteAbort", "Dead")
OFFSETS_TOPIC = "__consumer_offsets"
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Transaction:
    """A transactional.id as its coordinator has it."""

    transactional_id: str
    producer_id: int
    state: str


def open_transactions(conf: Mapping[str, Any], topics: Iterable[str], prefix: str) -> list[str]:
    """What is open now, in words; nothing when all is settled.

    Args:
        conf: of a client. The brokers' listeners must be plain text.
        topics: whose partitions are asked, beside the topic of committed offsets.
        prefix: of the transactional.ids that matter; other tests share the broker.

    Raises:
        OSError: a broker does not answer, or a partition has no leader.
    """
    admin = AdminClient(dict(conf))
    metadata = admin.list_topics(timeout=TIMEOUT_S)
    brokers = {number: (broker.host, broker.port) for number, broker in metadata.brokers.items()}
    known = [one for address in brokers.values() for one in list_transactions(address)]
    ours = [one for one in known if one.transactional_id.startswith(prefix)]
    found = [f"{one.transactional_id} is in state {one.state}" for one in ours if one.state not in SETTLED]
    producers = {one.producer_id: one.transactional_id for one in ours}
    by_leader: dict[int, list[tuple[str, int]]] = {}
    for topic in (*topics, OFFSETS_TOPIC):
        if topic in metadata.topics:
            for partition in metadata.topics[topic].partitions.values():
                by_leader.setdefault(partition.leader, []).append((topic, partition.id))
    for leader, partitions in by_leader.items():
        if leader not in brokers:
            raise ConnectionError(f"no leader for {partitions}")
        for topic, partition, producer_id, first in describe_producers(brokers[leader], partitions):
            if producer_id in producers:
                found.append(f"{topic}[{partition}]: a transaction of {producers[producer_id]} since offset {first}")
    return sorted(found)


def list_transactions(address: tuple[str, int]) -> list[Transaction]:
    """The transactions that a broker coordinates."""
    answer = _ask(address, LIST_TRANSACTIONS, _array([]) + _array([]) + NO_TAGS)
    answer.number("i")  # throttle time
    _expect_none(answer.number("h"), "ListTransactions")
    answer.array(answer.text)

    def transaction() -> Transaction:
        found = Transaction(answer.text(), answer.number("q"), answer.text())
        answer.tags()
        return found

    return answer.array(transaction)


def describe_producers(
    address: tuple[str, int], partitions: Iterable[tuple[str, int]]
) -> list[tuple[str, int, int, int]]:
    """Topic, partition, producer ID and first offset of the open transactions on a leader's partitions."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    asked = [
        _text(topic) + _array([struct.pack(">i", number) for number in numbers]) + NO_TAGS
        for topic, numbers in by_topic.items()
    ]
    answer = _ask(address, DESCRIBE_PRODUCERS, _array(asked) + NO_TAGS)
    found: list[tuple[str, int, int, int]] = []
    answer.number("i")  # throttle time

    def one_topic() -> None:
        topic = answer.text()
        answer.array(lambda: one_partition(topic))
        answer.tags()

    def one_partition(topic: str) -> None:
        partition = answer.number("i")
        _expect_none(answer.number("h"), f"DescribeProducers {topic}[{partition}]")
        answer.text()  # the error's words
        answer.array(lambda: one_producer(topic, partition))
        answer.tags()

    def one_producer(topic: str, partition: int) -> None:
        producer_id = answer.number("q")
        for kind in "iiqi":  # epoch, last sequence, last timestamp, the coordinator's epoch
            answer.number(kind)
        first = answer.number("q")
        if first >= 0:
            found.append((topic, partition, producer_id, first))
        answer.tags()

    answer.array(one_topic)
    return found


NO_TAGS = b"\x00"


class _Answer:
    """An answer in the flexible encoding, read from its beginning to its end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(">" + kind, self._content, self._at)
        self._at += struct.calcsize(">" + kind)
        return int(value)

    def size(self) -> int:
        value = shift = 0
        while True:
            byte = self._content[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> str:
        length = max(0, self.size() - 1)
        self._at += length
        return self._content[self._at - length : self._at].decode()

    def array(self, item: Callable[[], Any]) -> list[Any]:
        return [item() for _ in range(max(0, self.size() - 1))]

    def tags(self) -> None:
        for _ in range(self.size()):
            self.size()
            self._at += self.size()


def _ask(address: tuple[str, int], key: int, body: bytes) -> _Answer:
    """Send version 0 of a request with flexible headers, and return the answer's body."""
    client = b"checker"
    request = struct.pack(">hhih", key, 0, 1, len(client)) + client + NO_TAGS + body
    with socket.create_connection(address, TIMEOUT_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            size = stream.read(4)
            if len(size) < 4:
                raise ConnectionError(f"{address}: closed without an answer to request {key}")
            answer = _Answer(stream.read(struct.unpack(">i", size)[0]))
    answer.number("i")  # correlation ID
    answer.tags()
    return answer


def _size(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _text(text: str) -> bytes:
    return _size(len(text.encode()) + 1) + text.encode()


def _array(items: list[bytes]) -> bytes:
    return _size(len(items) + 1) + b"".join(items)


def _expect_none(error: int, what: str) -> None:
    if error:
        raise ConnectionError(f"{what}: error {error}")
