"""The long run at a steady rate, in short: what it counts, and that it would see what is lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from tests.bench.endurance.page import BEGIN, END, growth, write
from tests.bench.endurance.visitors import LENGTH, SILENT, visits
from tests.brokers.fixtures import TestCluster
from worker.bench.contestant import environment


def test_every_visitor_comes_once_and_ends_after_its_last_sample():
    streams, turns = 150, 4 * LENGTH
    counted, ended = Counter[bytes](), set()
    for value, key in islice(visits(streams, 3), streams * turns):
        assert key not in ended
        counted[key] += 1
        if "end_of_sequence" in msgspec.json.decode(value):
            ended.add(key)
    stayed = [key for key in counted if counted[key] == LENGTH]
    silent = [key for key in stayed if key not in ended]
    assert max(counted.values()) == LENGTH
    assert len(stayed) // SILENT <= len(silent) <= len(stayed) // SILENT + 1
    assert {counted[key] for key in ended if int(key.removeprefix(b"visitor-")) >= streams} == {LENGTH}


def test_growth_is_per_hour_and_leaves_the_first_quarter_out():
    windows = [{"end_s": 60.0 * i, "rss_bytes": 5e9 if i < 2 else 1e6 * i} for i in range(8)]
    assert growth(windows, "rss_bytes") == pytest.approx(60e6)


@pytest.mark.broker
def test_a_short_run_at_a_steady_rate_answers_every_sample_once(kafka: TestCluster, tmp_path: Path):
    numbers = tmp_path / "run.json"
    arguments = ["--minutes", "0.2", "--windows", "4", "--records", "20000", "--load", "0.1", "--streams", "500"]
    subprocess.run(
        [sys.executable, "-m", "tests.bench.endurance", "--quick", "--json", str(numbers), *arguments],
        env=environment({}) | {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers},
        check=True,
        timeout=280,
    )
    run = json.loads(numbers.read_text())
    assert run["samples"] == run["sent"] > 0
    assert run["events"] == run["expected"] > 0
    assert run["wrong"] == 0
    assert len(run["windows"]) >= 2
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    written = write(run, page, "today")
    assert page.read_text().startswith(f"before\n{BEGIN}\nMeasured today: {run['sent']:,} samples")
    assert page.read_text().endswith(f"{END}\nbehind\n")
    assert written[1].read_text().count("<svg") == 1
