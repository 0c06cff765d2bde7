"""Which real Apache Kafka the tests run on.

In this order: the cluster that `KAFKA_BOOTSTRAP_SERVERS` names; a container, where a Docker engine answers and has
the image (`CELLSTREAM_KAFKA_IMAGE`, apache/kafka by default); a local JVM on jars that Maven fetches. Where none
of them can be had the tests are skipped and say what to install; under `CI=true` they fail.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.container import container, engine_has
from tests.brokers.jars import fetch_jars, java_version, kafka_version, what_is_missing
from tests.brokers.kafka_process import KafkaProcess


@dataclass(frozen=True)
class Choice:
    """What was decided: `kind` is external, docker, jvm or none; `words` says it to a person."""

    kind: str
    words: str


@functools.cache
def choose() -> Choice:
    """Decide once for a test session, without starting anything."""
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if servers:
        return Choice("external", f"KAFKA_BOOTSTRAP_SERVERS={servers}")
    image = os.environ.get("CELLSTREAM_KAFKA_IMAGE", "apache/kafka")
    if engine_has(image):
        return Choice("docker", f"Docker image {image}")
    missing = what_is_missing()
    if missing is None:
        return Choice("jvm", f"Apache Kafka {kafka_version()} on a local JVM (Java {java_version()}), jars by Maven")
    return Choice(
        "none",
        f"no Apache Kafka to test on: install {missing}; or start Docker with the image {image}; "
        "or set KAFKA_BOOTSTRAP_SERVERS",
    )


def must_have_broker() -> bool:
    """On a CI service a missing broker is a failure: there, a skip would look like a pass."""
    return os.environ.get("CI", "").lower() in ("true", "1")


@contextmanager
def real_broker(directory: Path) -> Iterator[str]:
    """Run the chosen broker and yield its bootstrap servers.

    Args:
        directory: where a local JVM keeps its log.
    """
    choice = choose()
    assert choice.kind != "none", choice.words
    if choice.kind == "external":
        yield os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    elif choice.kind == "docker":
        with container(os.environ.get("CELLSTREAM_KAFKA_IMAGE", "apache/kafka")) as servers:
            yield servers
    else:
        with KafkaProcess(fetch_jars(), directory) as broker:
            yield broker.bootstrap_servers
