"""Laws of the live picture: one command brings it up, probabilities flow, Prometheus sees every worker."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboard import FILE as DASHBOARD
from tests.deploy.test_dashboard import QUERIES, chosen
from tests.deployment import until
from tests.image.compose import Stack, composed, lines_of
from tests.image.engine import Engine

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(3600)]  # the first one builds

DATA_SOURCE = DASHBOARD.parent / "provisioning" / "datasources" / "prometheus.yml"
# A program: its arguments are where to ask, and what; a line for each answer.
ASK = """
import json, sys, urllib.parse, urllib.request
for query in sys.argv[2:]:
    url = sys.argv[1] + "/api/v1/query?" + urllib.parse.urlencode({"query": query})
    print(json.dumps(json.load(urllib.request.urlopen(url))))
"""
EVENTS = 300
WITHIN_S = 600  # a first step after training, of two workers, on a busy machine


@pytest.fixture(scope="module")
def stack(engine: Engine, image: str, base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with composed(engine, base, image, tmp_path_factory.mktemp("compose")) as found:
        yield found


def ask(stack: Stack, path: str, **parameters: str) -> Any:
    """What Prometheus answers."""
    url = f"{stack.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())["data"]


def value_of(stack: Stack, query: str) -> float:
    """Of a query with one answer; 0 where there is none yet."""
    found = ask(stack, "query", query=query)["result"]
    return float(found[0]["value"][1]) if found else 0.0


def test_workers_become_healthy_after_what_they_need_has_ended_well(stack: Stack) -> None:
    states = [one["State"] for one in stack.containers("topics", "model")]
    assert [(state["Status"], state["ExitCode"]) for state in states] == [("exited", 0)] * 2

    def healthy() -> bool:
        return [one["State"]["Health"]["Status"] for one in stack.containers("worker")] == ["healthy"] * 2

    until(healthy, "two healthy workers", within_s=WITHIN_S)


def test_probabilities_arrive_in_the_topic_each_of_a_record_of_its_own(stack: Stack) -> None:
    watch = ["cellstream", "watch", "--from-beginning", "--json", "--limit", str(EVENTS)]
    events = lines_of(stack("exec", "-T", "worker", *watch, within_s=WITHIN_S))
    assert len(events) == EVENTS
    assert len({tuple(event["source"]) for event in events}) == EVENTS
    for event in events:
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_prometheus_scrapes_both_workers_and_its_rules_are_well(stack: Stack) -> None:
    until(lambda: value_of(stack, 'sum(up{job="cellstream"})') == 2, "two targets that are up", within_s=WITHIN_S)
    answered = "sum(cellstream_samples_total)"
    until(lambda: value_of(stack, answered) > EVENTS, "metrics of a worker that answers", within_s=WITHIN_S)

    def judged() -> set[str]:
        return {rule["health"] for group in ask(stack, "rules")["groups"] for rule in group["rules"]}

    until(lambda: "unknown" not in judged(), "an evaluation of each rule", within_s=WITHIN_S)
    assert judged() == {"ok"}


def test_where_grafana_looks_for_prometheus_every_query_of_the_dashboard_is_answered(stack: Stack) -> None:
    """A worker's container asks in the place of Grafana's, which cannot be had here."""
    (source,) = yaml.safe_load(DATA_SOURCE.read_text())["datasources"]
    queries = [source["url"], *(chosen(expression) for _, expression in QUERIES)]
    answers = lines_of(stack("exec", "-T", "worker", "python3", "-c", ASK, *queries))
    assert [answer["status"] for answer in answers] == ["success"] * len(QUERIES)
