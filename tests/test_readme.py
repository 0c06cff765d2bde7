"""README.md and docs/ say what is there: their commands run, their links lead somewhere, their tables are complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.deployment import until
from worker.cli import app
from worker.settings.model import GUARDED, Settings
from worker.state.sequences import REASONS

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTION = "Use with a cluster"
ADDRESS = "export CELLSTREAM_BOOTSTRAP_SERVERS=localhost:9092"
ON_PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def section(title: str) -> str:
    """The text under a heading of README.md."""
    return re.split(r"^## ", PAGES["README.md"].partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def commands(text: str) -> list[str]:
    """The lines of a page's shell blocks."""
    blocks = [body for language, body in FENCED.findall(text) if language == "sh"]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def spans() -> Iterator[tuple[str, str]]:
    """Page and text of everything in backticks outside of blocks."""
    for name, text in PAGES.items():
        for span in re.findall(r"`([^`\n]+)`", FENCED.sub("", text)):
            yield name, span


def resolve(line: str) -> tuple[Any, list[str]]:
    """A command line's subcommand and what follows it."""
    _, name, *rest = shlex.split(line, comments=True)
    command = get_command(app).get_command(None, name)
    assert command is not None, f"{line}: no such command"
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"{line}: no such command"
        command = command.commands[rest.pop(0)]
    return command, rest


LINES = [(name, line) for name, text in PAGES.items() for line in commands(text) if line.startswith("cellstream ")]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_line_in_a_block_is_accepted(page: str, line: str) -> None:
    command, rest = resolve(line)
    command.make_context("cellstream", rest)  # raises for what it does not know; runs nothing


def test_commands_named_in_the_text_exist_with_their_options() -> None:
    for page, span in spans():
        if span.startswith("cellstream ") and span != "cellstream --version":
            command, rest = resolve(span)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in rest if word.startswith("-")} <= known, (page, span)


def test_make_targets_named_anywhere_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.compile(r"(?:^ *|`|&& )make ([a-z-]+)", re.MULTILINE)
    assert {target for text in PAGES.values() for target in named.findall(text)} <= targets


def test_links_lead_to_files_and_headings() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text)):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, (page, link)


def test_paths_of_the_repository_named_in_the_text_exist() -> None:
    for page, span in spans():
        if re.fullmatch(r"\.?(worker|training|tests|docs|deploy|requirements|ci)/[\w./]*", span):
            assert (ROOT / span).exists(), f"{page}: {span}"


def rows(page: str, heading: str | None = None) -> list[list[str]]:
    """The cells of a page's table rows, of one section or of all; without the lines under the headings."""
    text = PAGES[page] if heading is None else PAGES[page].partition(f" {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_settings_page_has_every_setting_with_its_default_and_no_other() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows("docs/settings.md") if len(row) == 4 and row[0] != "name"}
    assert set(documented) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if field.default_factory is None:
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            assert documented[name].startswith("none" if default is None else f"`{default}`"), name


def test_settings_page_has_every_property_that_is_refused() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows("docs/settings.md") if len(row) == 2}
    assert documented == {"property": "because", **GUARDED}


def test_records_page_has_every_reason_of_an_end_and_of_a_dead_letter() -> None:
    ends = {row[1].strip("`") for row in rows("docs/records.md", "Markers")} - {"reason"}
    assert ends == set(REASONS[1:])
    sources = "".join(source.read_text() for source in (ROOT / "worker").rglob("*.py"))
    raised = set(re.findall(r'BadRecord\(\s*"(\w+)"', sources))
    derived = {"wrong_feature_count", "wrong_type", "not_finite"}  # of msgspec's messages
    letters = {row[0].strip("`") for row in rows("docs/records.md", "Dead letters") if len(row) == 3} - {"reason"}
    assert letters == raised | derived


def shell(line: str, environment: dict[str, str], directory: Path) -> str:
    """What a command that succeeds writes to its standard output."""
    done = subprocess.run(
        ["sh", "-c", line],
        check=False,
        env={**os.environ, **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{line}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cluster_section_runs_as_it_is_written(kafka: TestCluster, tmp_path: Path) -> None:
    first, train, topics, run, publish, watch = commands(section(SECTION))
    assert first == ADDRESS  # the reader's address; everything below is the reader's command, letter by letter
    environment = ON_PATH | {
        "CELLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CELLSTREAM_INPUT_TOPIC": kafka.unique("samples"),
        "CELLSTREAM_OUTPUT_TOPIC": kafka.unique("probabilities"),
        "CELLSTREAM_DEAD_LETTER_TOPIC": kafka.unique("dead-letters"),
        "CELLSTREAM_GROUP_ID": kafka.unique("group"),
        "CELLSTREAM_METRICS_PORT": "0",
    }
    assert "accuracy" in shell(train, environment, tmp_path)
    assert shell(topics, environment, tmp_path).count("created") == 3
    worker = Process(["sh", "-c", f"exec {run}"], tmp_path / "worker.log", environment, tmp_path)
    try:
        until(lambda: "assigned" in worker.tail(), "the worker's first assignment", worker)
        published = int(shell(publish, environment, tmp_path).split()[0].replace(",", ""))
        shown = shell(watch, environment, tmp_path).splitlines()
        everything = f"cellstream watch --from-beginning --json --limit {published}"
        events = [json.loads(line) for line in shell(everything, environment, tmp_path).splitlines()]
    finally:
        code = worker.stop()
    assert code == 0, worker.tail()
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert [list(json.loads(line)) for line in shown] == [list(events[0])] * 3
    assert list(events[0]) == ["stream_id", "sequence", "timestep", "probabilities", "timestamp", "source", "model"]
    timesteps = defaultdict(list)
    for event in events:
        assert list(event["probabilities"]) == manifest["classes"]
        assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        timesteps[event["sequence"]].append(event["timestep"])
    assert published == 2000
    assert len(timesteps) == 20
    assert all(steps == list(range(100)) for steps in timesteps.values())
    saved = {file.parent.name for file in (tmp_path / "checkpoints").rglob("*.h5")}
    assert saved == {str(event["source"][0]) for event in events}
