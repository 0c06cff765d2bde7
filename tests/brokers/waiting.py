"""Waiting for brokers and topics to be there: what was confirmed may not be known everywhere yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient


def wait_for_metadata(
    bootstrap_servers: str, deadline: float, gone: Callable[[], bool] = lambda: False, brokers: int = 1
) -> None:
    """Return when the cluster's metadata names a broker: a listener that accepts is not enough.

    Args:
        bootstrap_servers: of the cluster.
        deadline: in `time.monotonic()` seconds.
        gone: says that waiting is in vain.
        brokers: how many must be there.

    Raises:
        TimeoutError: the deadline has passed, or the broker is gone.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 200})
    while True:
        try:
            if len(admin.list_topics(timeout=1).brokers) >= brokers:
                return
            time.sleep(0.1)
        except KafkaException:
            pass  # not listening yet
        if gone() or time.monotonic() > deadline:
            raise TimeoutError(f"no Kafka broker answers at {bootstrap_servers}")


def wait_for_topic(conf: Mapping[str, str], topic: str, timeout_s: float = 60.0) -> None:
    """Return when every partition of a new topic has a leader: creation is confirmed before brokers have heard of it.

    Raises:
        TimeoutError: it takes too long.
    """
    admin = AdminClient(dict(conf))
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = admin.list_topics(topic, timeout=5).topics[topic]
            if found.error is None and found.partitions and all(p.leader >= 0 for p in found.partitions.values()):
                return
        except KafkaException:
            pass  # a broker that is busy, or has just started
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {topic} has no leaders after {timeout_s:g} s")
        time.sleep(0.02)
