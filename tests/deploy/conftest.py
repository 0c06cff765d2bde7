"""Workers that start at once, and a group of them that is watched by Prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.fixtures import TestCluster
from tests.chaos.nursery import Nursery
from tests.deploy.scene import FACTOR, RETENTION_S, Scene
from tests.deployment import Deployment

# Some minutes of waiting until all alerts have fired: `make test-alerts` is where these run.
collect_ignore = [] if os.environ.get("TESTS_ALERTS") else ["test_alerts_fire.py"]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery


@pytest.fixture
def scene(artifact: Path, tmp_path: Path, nursery: Nursery, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A group that has no worker yet; see `fires`. It is on the broker that a test harms, if it harms one."""
    if "kafka_process" in request.fixturenames:
        kafka = TestCluster("kafka", request.getfixturevalue("kafka_process").bootstrap_servers)
    else:
        kafka = request.getfixturevalue("kafka")
    topic = kafka.topic("samples", retention_ms=str(RETENTION_S * 1000))
    often = "--checkpoint-interval-s", f"{30 / FACTOR:g}"  # the default, on the clock of the rules
    deployment = Deployment.create(kafka, artifact, tmp_path, *often, input_topic=topic)
    deployment.spawn = nursery.start
    with Scene(deployment, tmp_path, request.param) as scene:
        yield scene
