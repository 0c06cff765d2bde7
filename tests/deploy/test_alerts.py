"""Laws of the alerts: each fires when it should and is silent when it should not, and somebody is told what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.exposition import asked_for, family_names, series_names
from tests.deploy.tools import answer_of, prometheus_tool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
CASES = sorted(Path(__file__).with_name("rules").glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def rules(file: str) -> list[dict[str, Any]]:
    """The rules of a file, of all its groups."""
    return [rule for group in yaml.safe_load((RULES / file).read_text())["groups"] for rule in group["rules"]]


RECORDED, ALERTS = rules("recording.yml"), rules("alerts.yml")


def runbook_sections() -> dict[str, str]:
    """Heading and text of every section of the runbook that begins with an alert's name."""
    parts = re.split(r"^## (Cellstream\w+)$", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_are_silent_when_they_should_not(cases: Path) -> None:
    answer_of([prometheus_tool("promtool"), "test", "rules", cases])


def test_prometheus_accepts_its_configuration_and_all_rules() -> None:
    said = answer_of([prometheus_tool("promtool"), "check", "config", RULES / "prometheus.yml"])
    assert f"{len(RECORDED)} rules found" in said
    assert f"{len(ALERTS)} rules found" in said


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_never_does() -> None:
    fires, silent = set(), set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            expected: dict[str, list[bool]] = {}
            for check in case["alert_rule_test"]:
                expected.setdefault(check["alertname"], []).append(bool(check.get("exp_alerts")))
            fires |= {name for name, outcomes in expected.items() if any(outcomes)}
            silent |= {name for name, outcomes in expected.items() if not any(outcomes)}
    names = {rule["alert"] for rule in ALERTS}
    assert fires == names
    assert silent == names


def test_every_metric_that_a_rule_names_exists() -> None:
    known = series_names() | {rule["record"] for rule in RECORDED}
    for rule in RECORDED + ALERTS:
        names = asked_for(rule["expr"])
        assert names, rule
        assert names <= known, rule


def test_every_alert_says_what_happens_how_bad_it_is_and_where_to_read_on() -> None:
    for rule in ALERTS:
        name = rule["alert"]
        assert re.fullmatch(r"Cellstream[A-Z]\w+", name)
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_every_alert_and_for_no_other() -> None:
    assert runbook_sections().keys() == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_a_section_says_what_it_means_how_to_look_and_what_to_do(alert: str) -> None:
    text = runbook_sections()[alert]
    for heading in ("Means.", "Look.", "Do."):
        assert f"**{heading}**" in text, heading
    assert re.search(r"^ {4}\S", text, re.MULTILINE), "no command to look with"


def test_metrics_named_in_the_runbook_exist() -> None:
    assert asked_for(RUNBOOK) <= series_names() | family_names() | {rule["record"] for rule in RECORDED}
