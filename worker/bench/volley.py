"""A backlog that becomes readable at one moment: records behind an open transaction.

A read-committed consumer sees nothing at or past the first open transaction of a partition (the last stable
offset). So a volley is produced inside a transaction while the contestant waits, and `fire` commits it: the
whole backlog is there at once, in the broker's page cache, and producing it costs the contestant nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from worker.errors import FatalFault

TIMEOUT_S = 60.0
VARIETY = 1_000  # different values; more would only cost the loader memory


class Volleys:
    """Loads one topic with records of many interleaved streams; the same seed gives the same records.

    Args:
        conf: librdkafka properties every client here starts from.
        topic: an existing topic that nobody else writes.
        streams: different stream IDs; each record's is drawn at random, so that a poll holds streams of any depth.
        features: numbers in each sample.
        seed: of stream order and values.
    """

    def __init__(self, conf: Mapping[str, str], topic: str, streams: int, features: int, seed: int = 0) -> None:
        self._topic = topic
        self._random = np.random.default_rng(seed)
        self._keys = [b"stream-%05d" % i for i in range(streams)]
        vectors = self._random.standard_normal((VARIETY, features)).round(4).tolist()
        self._values = [json.dumps({"features": vector}, separators=(",", ":")).encode() for vector in vectors]
        self._producer = Producer(
            {
                **conf,
                "log_level": "3",
                "transactional.id": topic,
                "transaction.timeout.ms": 300_000,
                "linger.ms": 50,
                "partitioner": "murmur2_random",
            }
        )
        self._producer.init_transactions(TIMEOUT_S)
        # Uncommitted high watermarks, and never a member of a group.
        self._reader = Consumer({**conf, "group.id": topic, "isolation.level": "read_uncommitted"})
        described = self._reader.list_topics(topic, TIMEOUT_S).topics[topic]
        self.partitions = sorted(described.partitions)

    def load(self, records: int) -> tuple[dict[int, int], dict[int, int]]:
        """Produce `records` behind an open transaction.

        Returns:
            `next_offset` of each partition before the first and after the last of them.
        """
        before = self._ends()
        self._producer.begin_transaction()
        chosen = self._random.integers(0, len(self._keys), records).tolist()
        produce, topic, keys, values = self._producer.produce, self._topic, self._keys, self._values
        for i, stream in enumerate(chosen):
            while True:
                try:
                    produce(topic, values[i % VARIETY], keys[stream])
                    break
                except BufferError:
                    self._producer.poll(0.05)
        left = self._producer.flush(TIMEOUT_S)
        after = self._ends()
        if left or sum(after.values()) - sum(before.values()) != records:
            raise FatalFault(f"topic {topic}: expected {records} new records, {left} were not delivered")
        return before, after

    def fire(self) -> None:
        """Let the consumers see what was loaded."""
        self._producer.commit_transaction(TIMEOUT_S)

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next owner of the topic's name, or by its time-out."""
        self._reader.close()

    def _ends(self) -> dict[int, int]:
        return {partition: self._end(partition) for partition in self.partitions}

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
