"""Fixtures of brokers, and what pytest prints of them.

`cluster` runs a test twice, on the embedded broker and on a real Apache Kafka; `kafka` and `embedded` give one of the
two; `kafka_process` gives a test a broker of its own to kill or freeze. One broker serves a whole session, so
a test names its topics and groups by `cluster.unique`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.brokers.choice import choose, must_have_broker, real_broker
from tests.brokers.jars import fetch_jars, what_is_missing
from tests.brokers.kafka_process import KafkaProcess, broker_to_harm
from tests.brokers.waiting import wait_for_topic
from worker.kafka.admin import BROKER_DEFAULT, Cluster
from worker.kafka.embedded import EmbeddedBroker

BROKERS = ("embedded", "kafka")
_used: dict[str, str] = {}


@dataclass(frozen=True)
class TestCluster:
    """A running broker for tests; `kind` is "embedded" or "kafka", `login` what its clients need beside the address."""

    __test__ = False  # a value for tests, not a class of them

    kind: str
    bootstrap_servers: str
    login: Mapping[str, str] = field(default_factory=dict)

    @property
    def conf(self) -> dict[str, str]:
        """What every client needs; a broker that ends before its clients is not worth a line of log."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": "0", **self.login}

    def unique(self, name: str) -> str:
        """A name for a topic or group that no other test of this or any other session has."""
        return f"{name}-{uuid.uuid4().hex[:12]}"

    def topic(self, name: str, partitions: int = 4, **settings: str) -> str:
        """Create a topic under a unique name and return it.

        Nothing is removed from it unless the settings say so: retention goes by the records' own times, and tests
        write of old times.

        Args:
            name: its beginning.
            partitions: 4 are all that the embedded broker can do.
            settings: topic settings with `_` for `.`; the embedded broker has none.
        """
        assert self.kind == "kafka" or (partitions == 4 and not settings), "the embedded broker cannot do that"
        unique = self.unique(name)
        named = {"retention.ms": "-1"} | {key.replace("_", "."): value for key, value in settings.items()}
        Cluster(self.conf, timeout_s=60).create(unique, partitions, BROKER_DEFAULT, named)
        wait_for_topic(self.conf, unique)
        return unique


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A real Apache Kafka, by the order of choice."""
    choice = choose()
    if choice.kind == "none":
        refuse = pytest.fail if must_have_broker() else pytest.skip
        refuse(choice.words)
    with real_broker(tmp_path_factory.mktemp("kafka")) as servers:
        _used["kafka"] = f"{choice.words}, at {servers}"
        yield TestCluster("kafka", servers)


@pytest.fixture(scope="session")
def embedded() -> Iterator[TestCluster]:
    """The embedded broker."""
    with EmbeddedBroker() as broker:
        _used["embedded"] = f"librdkafka's mock cluster, at {broker.bootstrap_servers}"
        yield TestCluster("embedded", broker.bootstrap_servers)


@pytest.fixture(params=BROKERS)
def cluster(request: pytest.FixtureRequest) -> TestCluster:
    """Both brokers, one after the other; mark what the embedded one lacks with `embedded_lacks`."""
    lacks = request.node.get_closest_marker("embedded_lacks")
    if lacks is not None and request.param == "embedded":
        quick = request.node.get_closest_marker("slow") is None  # else half a minute to see what is known
        request.applymarker(pytest.mark.xfail(reason=lacks.args[0], strict=True, run=quick))
    chosen: TestCluster = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def kafka_process(tmp_path: Path) -> Iterator[KafkaProcess]:
    """A broker of this test's own, as a local JVM whatever the others use: only that can be killed and frozen."""
    missing = what_is_missing()
    if missing is not None:
        refuse = pytest.fail if must_have_broker() else pytest.skip
        refuse(f"killing and freezing a broker needs a local one: install {missing}")
    # A killed broker may register again only when the controller has given up its former self.
    quick = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
    with broker_to_harm(fetch_jars(), tmp_path / "kafka", quick, 512) as broker:
        yield broker


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that `cluster` reads."""
    config.addinivalue_line("markers", "embedded_lacks(reason): must fail on the embedded broker, for this reason")


def pytest_report_header() -> str:
    """Say before the first test which broker will be taken."""
    return f"kafka: {choose().words}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say after the last one which brokers were used."""
    for kind, words in sorted(_used.items()):
        terminalreporter.write_line(f"broker {kind}: {words}")
    if choose().kind == "none":
        terminalreporter.write_line(f"broker kafka: {choose().words}", yellow=True)
