"""A backlog that becomes readable at one moment: records behind an open transaction.

A read-committed consumer sees nothing at or past the first open transaction of a partition (the last stable
offset). So a volley is produced inside a transaction while the contestant waits, and `fire` commits it: the
whole backlog is there at once, in the broker's page cache, and producing it costs the contestant nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from numpy.typing import NDArray

from worker.errors import FatalFault

TIMEOUT_S = 60.0
VARIETY = 1_000  # different values; more would only cost the loader memory


@dataclass(frozen=True)
class Traffic:
    """What the records of a topic are.

    Attributes:
        features: numbers in each sample.
        chunk: samples in each record.
        codec: of their values, json or float32.
    """

    features: int
    chunk: int = 1
    codec: str = "json"

    def values(self, random: np.random.Generator) -> list[bytes]:
        """`VARIETY` different values."""
        chunks = random.standard_normal((VARIETY, self.chunk, self.features)).round(4)
        return [self._value(chunk) for chunk in chunks]

    def _value(self, chunk: NDArray[Any]) -> bytes:
        if self.codec == "float32":
            return chunk.astype("<f4").tobytes()
        value = {"features": chunk[0].tolist()} if self.chunk == 1 else {"samples": chunk.tolist()}
        return json.dumps(value, separators=(",", ":")).encode()


class Volleys:
    """Loads one topic with records of many interleaved streams; the same seed gives the same records.

    Args:
        conf: librdkafka properties every client here starts from.
        topic: an existing topic that nobody else writes.
        traffic: what its records are.
        seed: of stream order and values.
    """

    def __init__(self, conf: Mapping[str, str], topic: str, traffic: Traffic, seed: int = 0) -> None:
        self.traffic = traffic
        self._topic = topic
        self._random = np.random.default_rng(seed)
        self._keys: list[bytes] = []
        self._values = traffic.values(self._random)
        self._producer = Producer(
            {
                **conf,
                "log_level": "3",
                "transactional.id": topic,
                "transaction.timeout.ms": 300_000,
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
                "partitioner": "murmur2_random",
            }
        )
        self._producer.init_transactions(TIMEOUT_S)
        # Uncommitted high watermarks, and never a member of a group.
        self._reader = Consumer({**conf, "group.id": topic, "isolation.level": "read_uncommitted"})
        self.partitions = self._known_partitions()

    def load(self, records: int, streams: int, each_once: bool = False) -> tuple[dict[int, int], dict[int, int]]:
        """Produce `records` behind an open transaction.

        Args:
            records: how many.
            streams: each record's is drawn at random out of so many, so that a poll holds streams of any depth.
            each_once: the streams in turn instead.

        Returns:
            `next_offset` of each partition before the first and after the last of them.
        """
        before = self.ends()
        self._producer.begin_transaction()
        numbers = np.arange(records) % streams if each_once else self._random.integers(0, streams, records)
        self._keys += [b"stream-%05d" % i for i in range(len(self._keys), streams)]
        produce, topic = self._producer.produce, self._topic
        for key, value in zip(map(self._keys.__getitem__, numbers.tolist()), cycle(self._values), strict=False):
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:
                    self._producer.poll(0.05)
        left = self._producer.flush(TIMEOUT_S)
        after = self.ends()
        if left or sum(after.values()) - sum(before.values()) != records:
            raise FatalFault(f"topic {topic}: expected {records} new records, {left} were not delivered")
        return before, after

    def fire(self) -> None:
        """Let the consumers see what was loaded."""
        self._producer.commit_transaction(TIMEOUT_S)

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next owner of the topic's name, or by its time-out."""
        self._reader.close()

    def ends(self) -> dict[int, int]:
        """The end of each partition's log, transaction markers included."""
        return {partition: self._end(partition) for partition in self.partitions}

    def _known_partitions(self) -> list[int]:
        """The topic's partitions; a broker may not have heard yet of a topic that was just made."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            described = self._reader.list_topics(self._topic, TIMEOUT_S).topics[self._topic]
            if described.error is None and described.partitions:
                return sorted(described.partitions)
            if time.monotonic() > deadline:
                raise FatalFault(f"topic {self._topic}: {described.error}")
            time.sleep(0.1)

    def _end(self, partition: int) -> int:
        """The end of a partition's log; a topic that was just made may not know its leader yet."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                _, end = self._reader.get_watermark_offsets(
                    TopicPartition(self._topic, partition), timeout=TIMEOUT_S, cached=False
                )
            except KafkaException as fault:
                if time.monotonic() > deadline:  # the client calls "not leader" not retriable
                    raise FatalFault(f"topic {self._topic}: {fault.args[0].str()}") from None
                time.sleep(0.1)
            else:
                return int(end)
