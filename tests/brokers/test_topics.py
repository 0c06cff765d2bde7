"""Laws of `cellstream topics`: it creates what is missing, alters nothing, and refuses an input that forgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.brokers.fixtures import TestCluster
from worker.cli import app
from worker.commands.topic_plan import HOUR_MS, Wanted, judge
from worker.errors import CellstreamError, FatalFault, Refused
from worker.kafka.admin import Cluster, partition_count, topic_id, topic_settings

SAFE = {"cleanup.policy": "delete", "retention.ms": str(168 * HOUR_MS), "retention.bytes": "-1"}


def run(cluster: TestCluster, names: dict[str, str], *flags: str) -> dict[str, dict[str, object]]:
    """Run the command with --json and return its report by role."""
    report, fault = outcome(cluster, names, *flags)
    if fault is not None:
        raise fault
    return report


def outcome(
    cluster: TestCluster, names: dict[str, str], *flags: str
) -> tuple[dict[str, dict[str, object]], CellstreamError | None]:
    options = [f"--{role}-topic={name}" for role, name in names.items()]
    arguments = ["topics", "--bootstrap-servers", cluster.bootstrap_servers, "--json", *options, *flags]
    result = CliRunner().invoke(app, arguments)
    fault = result.exception
    assert fault is None or isinstance(fault, CellstreamError), result.output
    return {topic["role"]: topic for topic in json.loads(result.stdout)["topics"]}, fault


@pytest.fixture
def names(cluster: TestCluster) -> dict[str, str]:
    return {role: cluster.unique(role) for role in ("input", "output", "dead-letter")}


def statuses(report: dict[str, dict[str, object]]) -> list[object]:
    return [topic["status"] for topic in report.values()]


def test_missing_topics_are_created_once_and_then_exist(cluster: TestCluster, names: dict[str, str]) -> None:
    assert statuses(run(cluster, names)) == ["created"] * 3
    report = run(cluster, names)
    assert statuses(report) == ["exists"] * 3
    assert [topic["partitions"] for topic in report.values()] == [4] * 3
    assert statuses(run(cluster, names, "--check")) == ["exists"] * 3


def test_check_creates_nothing_and_fails(cluster: TestCluster, names: dict[str, str]) -> None:
    for _ in range(2):
        report, fault = outcome(cluster, names, "--check")
        assert statuses(report) == ["missing"] * 3
        assert isinstance(fault, FatalFault)
        assert "does not exist" in str(fault)


@pytest.mark.broker
def test_created_topics_have_what_the_flags_said(kafka: TestCluster) -> None:
    names = {role: kafka.unique(role) for role in ("input", "output", "dead-letter")}
    flags = ("--partitions", "3", "--replication-factor", "1", "--retention-hours", "72")
    report = run(kafka, names, *flags)
    for topic in report.values():
        assert (topic["partitions"], topic["replication_factor"]) == (3, 1)
        assert (topic["cleanup_policy"], topic["retention_ms"]) == ("delete", 72 * HOUR_MS)
    assert statuses(run(kafka, names, *flags)) == ["exists"] * 3
    conf = kafka.conf
    assert partition_count(conf, names["input"]) == 3
    assert topic_id(conf, names["input"]) == report["input"]["topic_id"] != topic_id(conf, names["output"])
    assert topic_settings(conf, names["input"])["retention.ms"] == str(72 * HOUR_MS)


@pytest.mark.broker
def test_compacted_input_is_refused_with_the_remedy(kafka: TestCluster) -> None:
    names = {"input": kafka.topic("input", cleanup_policy="compact")}
    report, fault = outcome(kafka, names | {"output": kafka.unique("output"), "dead-letter": kafka.unique("dlq")})
    assert statuses(report) == ["unsafe", "created", "created"]
    assert isinstance(fault, Refused)
    assert f"--entity-name {names['input']} --add-config cleanup.policy=delete" in str(fault)


@pytest.mark.broker
def test_topic_that_differs_from_the_flags_is_a_failure_that_alters_nothing(kafka: TestCluster) -> None:
    names = {"input": kafka.topic("input", partitions=2), "output": kafka.unique("o"), "dead-letter": kafka.unique("d")}
    report, fault = outcome(kafka, names, "--partitions", "3")
    assert statuses(report) == ["differs", "created", "created"]
    assert isinstance(fault, FatalFault)
    assert "has 2 partitions, not 3" in str(fault)
    assert partition_count(kafka.conf, names["input"]) == 2


def test_cluster_that_does_not_answer_is_named_within_its_time() -> None:
    with pytest.raises(FatalFault, match=r"127.0.0.1:9 within 0.5 s: .*refused"):
        Cluster({"bootstrap.servers": "127.0.0.1:9", "log_level": "0"}, timeout_s=0.5).topics(["any"])


@pytest.mark.parametrize(
    ("settings", "unsafe"),
    [
        ({"cleanup.policy": "compact"}, True),
        ({"cleanup.policy": "compact,delete"}, True),
        ({"retention.ms": str(HOUR_MS - 1)}, True),
        ({"retention.bytes": "1000000"}, False),
    ],
)
def test_input_that_forgets_too_early_is_unsafe_and_says_how_to_mend_it(settings: dict[str, str], unsafe: bool) -> None:
    (problem,) = judge(Wanted("input", "samples"), 4, 1, SAFE | settings)
    assert problem.unsafe is unsafe
    assert "--entity-name samples --add-config " + next(iter(settings)) in problem.remedy
    outputs = judge(Wanted("output", "probabilities"), 4, 1, SAFE | settings)
    assert not any(problem.unsafe for problem in outputs)


@pytest.mark.parametrize("settings", [SAFE, SAFE | {"retention.ms": "-1"}, SAFE | {"retention.ms": str(HOUR_MS)}, {}])
def test_input_that_keeps_its_records_will_do(settings: dict[str, str]) -> None:
    assert judge(Wanted("input", "samples"), 4, 1, settings) == ()


def test_what_was_not_asked_for_is_not_compared() -> None:
    assert judge(Wanted("output", "probabilities"), 17, 5, SAFE | {"retention.ms": "1000"}) == ()
    asked = Wanted("output", "probabilities", partitions=4, replication_factor=3, retention_hours=1)
    assert len(judge(asked, 17, 5, SAFE | {"retention.ms": "1000"})) == 3


def test_check_of_an_artifact_tells_of_the_topics_where_a_broker_is_given(
    cluster: TestCluster, names: dict[str, str], artifact: Path
) -> None:
    def check(*flags: str) -> tuple[dict[str, Any], BaseException | None]:
        result = CliRunner().invoke(app, ["check", str(artifact), "--json", *flags])
        return json.loads(result.stdout), result.exception

    assert "broker" not in check()[0]
    deployment = [f"--{role}-topic={name}" for role, name in names.items()]
    deployment += ["--bootstrap-servers", cluster.bootstrap_servers]
    report, fault = check(*deployment)
    assert isinstance(fault, FatalFault)
    assert [topic["status"] for topic in report["broker"]["topics"]] == ["missing"] * 3
    run(cluster, names)
    report, fault = check(*deployment)
    assert fault is None
    assert [topic["status"] for topic in report["broker"]["topics"]] == ["exists"] * 3
    assert report["parity_here"]["holds"]
