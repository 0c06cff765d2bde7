"""Laws of the dashboard: it is what the script makes, and every panel shows something of a worker that works."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client import generate_latest

from deploy.grafana.dashboard import FILE, rendered
from tests.deploy.exposition import asked_for, exercised, series_names, work
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_alerts import RECORDED, RULES, rules
from tests.deploy.tools import answer_of, prometheus_tool
from tests.deployment import until
from worker.pages.health import Health, pages, serve

DASHBOARD = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_the_file_is_what_the_script_makes() -> None:
    assert FILE.read_text() == rendered(), "python -m deploy.grafana.dashboard"


def test_every_panel_has_a_title_of_its_own_a_unit_and_a_description() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["title"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_no_panel_covers_another_and_none_leaves_the_grid() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        assert x + width <= 24, panel["title"]
        for cell in ((column, row) for column in range(x, x + width) for row in range(y, y + height)):
            assert cell not in taken, (panel["title"], taken[cell])
            taken[cell] = panel["title"]


def test_every_metric_that_a_panel_asks_for_exists() -> None:
    known = series_names() | {rule["record"] for rule in RECORDED}
    for title, expression in QUERIES:
        names = asked_for(expression)
        assert names or "ALERTS" in expression, title
        assert names <= known, title


def test_grafana_finds_the_data_source_and_the_dashboard() -> None:
    provisioning = FILE.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == DASHBOARD["templating"]["list"][0]["query"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "cellstream.yml").read_text())["providers"]
    assert provider["type"] == "file"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a worker's own HTTP server, whose every metric moves ten times a second, and evaluates all rules."""
    metrics, health, over = exercised(), Health(), threading.Event()
    health.ready = True

    def live() -> None:
        while not over.wait(0.1):
            work(metrics)

    server = serve(pages(metrics, health), "127.0.0.1", 0)
    worker = threading.Thread(target=live)
    worker.start()
    try:
        rules = [RULES / "recording.yml", RULES / "alerts.yml"]
        directory, target = tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{server.port}"
        with Prometheus(directory, rules, "250ms", target) as prometheus:
            yield prometheus
    finally:
        over.set()
        worker.join()
        server.close()


def chosen(expression: str) -> str:
    """A query as Grafana sends it when everything is chosen."""
    for variable, value in {"$__rate_interval": "1m", "$namespace": ".*", "$job": ".*", "$instance": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression


def test_every_panel_shows_something_of_a_worker_that_works(prometheus: Prometheus) -> None:
    empty = dict.fromkeys(QUERIES)

    def all_show() -> bool:
        for title, expression in list(empty):
            found = prometheus.ask("query", query=chosen(expression))["result"]
            if any(series["value"][1] != "NaN" for series in found):
                del empty[title, expression]
        if empty:
            time.sleep(0.2)  # what rates need is another scrape
        return not empty

    try:
        until(all_show, "data in every panel", prometheus.process)
    except AssertionError as fault:
        raise AssertionError(f"{list(empty)}: {fault}") from None


def test_a_real_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    def state() -> list[tuple[str, str, str]]:
        groups = prometheus.ask("rules")["groups"]
        return [
            (rule["name"], rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]
        ]

    count = len(rules("recording.yml")) + len(rules("alerts.yml"))
    evaluated = ("ok", "err")
    until(lambda: sum(health in evaluated for _, health, _ in state()) == count, "an evaluation", prometheus.process)
    assert [rule for rule in state() if rule[1] != "ok"] == []


def test_the_exposition_has_no_fault_that_promtool_knows() -> None:
    lines = generate_latest(exercised().registry).decode().splitlines(keepends=True)
    ours = "".join(line for line in lines if "cellstream_" in line)
    answer_of([prometheus_tool("promtool"), "check", "metrics"], stdin=ours)
