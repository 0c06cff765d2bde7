"""The least rights of a deployment: the same set as lines, as JSON and for the worker itself."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.kafka.rights import worker_rights
from worker.settings import Settings

NAMES = {"input_topic": "in", "output_topic": "out", "dead_letter_topic": "dead", "group_id": "pumps"}
PRINCIPAL = "User:CN=worker one,O=test"


def printed(*flags: str) -> str:
    named = [part for name, value in NAMES.items() for part in ("--" + name.replace("_", "-"), value)]
    result = CliRunner().invoke(app, ["topics", "--acls", "--principal", PRINCIPAL, *named, *flags])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_lines_and_json_say_the_rights_that_the_worker_asks_for(delivery: str) -> None:
    rights = worker_rights(Settings(**NAMES, delivery=delivery))
    lines = printed("--delivery", delivery).splitlines()
    assert [line.startswith("# advised: ") for line in lines] == [False] * len(rights) + [True]
    entries = json.loads(printed("--delivery", delivery, "--json"))["rights"]
    assert [entry["needed"] for entry in entries] == [True] * len(rights) + [False]
    for right, line, entry in zip(rights, lines, entries, strict=False):
        words = shlex.split(line, comments=True)
        assert words[:4] == ["kafka-acls.sh", "--add", "--allow-principal", PRINCIPAL]
        assert words[5].upper() == right.operation == entry["operation"]
        assert words[6:8] == [f"--{right.resource}", right.name]
        assert ("prefixed" in words) == right.prefixed == (entry["pattern_type"] == "PREFIXED")
        assert (entry["principal"], entry["resource_name"]) == (PRINCIPAL, right.name)
    assert ("transactional-id" in "".join(lines)) == (delivery == "exactly_once")


def test_rekeying_reads_the_other_topic_and_writes_no_events() -> None:
    entries = json.loads(printed("--rekey", "raw", "--json"))["rights"]
    assert [(one["operation"], one["resource_type"], one["resource_name"]) for one in entries] == [
        ("READ", "TOPIC", "raw"),
        ("WRITE", "TOPIC", "in"),
        ("WRITE", "TOPIC", "dead"),
        ("READ", "GROUP", "pumps-rekey-raw"),
        ("WRITE", "TRANSACTIONAL_ID", "pumps-rekey-raw-"),
    ]
