"""The bench: its numbers add up, its opponents are honest, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient
from rich.console import Console

from tests.bench.page import BEGIN, END, write
from tests.brokers.fixtures import TestCluster
from worker.bench.aims import Aim, Measured
from worker.bench.contestant import Lap
from worker.bench.report import Report, Row, Spread

CLI = [sys.executable, "-c", "from worker.cli import main; main()"]


def bench(cluster: TestCluster, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [*CLI, "bench", "--json", "--bootstrap-servers", cluster.bootstrap_servers, *arguments],
        capture_output=True,
        timeout=280,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CELLSTREAM_")},
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_lap_divides_what_it_counted():
    lap = Lap(samples=1_000, seconds=0.5, cpu_s=0.002)
    assert lap.rate == 2_000
    assert lap.cpu_us == pytest.approx(2.0)


def test_a_spread_is_the_middle_and_both_ends():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_the_report_is_json_and_fits_eighty_columns():
    rate = Spread(530_000.0, 530_000.0, 1_530_000.0)
    row = Row("batch-of-one", rate, Spread.of([1_271.9]), None, 10.9, 2**30, (Lap(1, 1.0, 1.0),))
    report = Report({"streams": 10_000}, (row,), None, 1e-7, 300)
    assert json.loads(json.dumps(report.to_json()))["rows"][0]["samples_per_s"]["max"] == 1_530_000
    with open(os.devnull, "w") as nowhere:
        assert Console(file=nowhere, width=200).measure(report.table()).maximum <= 80


def test_the_batch_of_one_loop_answers_as_keras_does_of_the_whole_sequence():
    import keras

    from worker.bench.batch_of_one import StatefulModel

    keras.utils.set_random_seed(3)
    layers = keras.layers
    trained = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.LSTM(5, return_sequences=True),
            layers.LeakyReLU(),
            layers.GRU(4, return_sequences=True),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    inputs = np.random.default_rng(0).standard_normal((3, 6, 3)).astype(np.float32)
    expected = trained.predict(inputs, verbose=0)[:, :, 0]
    model = StatefulModel(trained)
    for t in range(6):
        for stream in (0, 2, 1):
            found = model.predict(b"%d" % stream, inputs[stream, t].tolist())
            assert found == pytest.approx(expected[stream, t], abs=1e-6)


def test_the_passthrough_writes_the_workers_kind_of_event():
    from worker.bench.passthrough import encode

    value = b'{"features":[0.1,2,3]}'
    messages = [
        Message(partition=1, offset=offset, key=b"s", value=value, timestamp=(1, 1_700_000_000_000))
        for offset in (7, 8)
    ]
    first, second = (msgspec.json.decode(event) for event in encode(messages))
    assert list(first) == ["stream_id", "sequence", "timestep", "probability", "timestamp", "source", "model"]
    assert first["probability"] == 0.1
    assert second["source"] == [1, 8]


def test_a_row_reaches_its_aim_by_its_median():
    at_most, at_least = Aim(1.5, at_least=False), Aim(2, at_least=True)
    assert Measured("a", at_most, (9.0, 1.5, 1.0)).reached
    assert not Measured("a", at_least, (9.0, 1.5, 1.0)).reached
    assert Measured("a", at_most, (3.0, 1.0, 2.0)).spread == "2.00 (1.00..3.00)"


def test_a_run_takes_the_place_of_the_former_one_in_the_page(tmp_path: Path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nbehind\n")
    bars = {"cellstream": [6.0], "passthrough": [2.0]}
    rates = Measured("rate", Aim(2, at_least=True), (3.0,), "6 by 2", bars, "| another table |")
    curves = {"percentiles": [50.0, 99.0, 99.9], "cellstream": [1.0, 2.0, 9.0]}
    latency = Measured("late", Aim(1, at_least=False, form="{:.0f} ms"), (3.0, 2.0), curves=curves)
    for _ in range(2):
        written = write([rates, latency], {"cores": 2}, page, "today", ["replay"])
        once = [path.read_bytes() for path in written]
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nbehind\n")
    assert "old" not in text
    assert "Measured today: cores 2. Not measured: replay.\n" in text
    assert "| another table |\n" in text
    assert "| rate | >= 2.00 | 3.00 | yes | 6 by 2 |" in text
    assert "| late | <= 1 ms | 2 ms (2 ms..3 ms) | **no** |  |" in text
    assert [path.name for path in written[1:]] == ["performance-rates.svg", "performance-percentiles.svg"]
    assert [path.read_bytes() for path in write([rates, latency], {"cores": 2}, page, "today", ["replay"])] == once


@pytest.mark.broker
def test_a_row_is_measured_in_its_smallest_form(kafka: TestCluster):
    report = bench(kafka, "--row", "float32", "--quick", "--records", "20000")
    (row,) = report["rows"]  # type: ignore[misc]
    assert row["aim"] == ">= 0.75"
    (ratio,) = row["values"]
    assert row["reached"] == (ratio >= 0.75)


@pytest.mark.broker
def test_passthrough_is_measured_and_nothing_is_left(kafka: TestCluster):
    report = bench(kafka, "--only", "passthrough", "--records", "20000", "--repeats", "2", "--streams", "100")
    (row,) = report["rows"]  # type: ignore[misc]
    assert len(row["laps"]) == 2
    assert row["ratio"]["median"] == 1
    assert row["samples_per_s"]["median"] > 1_000
    left = AdminClient(kafka.conf).list_topics(timeout=10).topics
    assert not [topic for topic in left if topic.startswith("cellstream-bench-")]


@pytest.mark.broker
@pytest.mark.slow
def test_the_worker_is_measured_beside_the_loop_and_answers_the_same(kafka: TestCluster):
    only = ("--only", "cellstream", "--only", "batch-of-one")
    report = bench(kafka, *only, "--records", "20000", "--slow-records", "500", "--repeats", "1")
    assert report["compared"] == 100
    assert report["largest_difference"] < 1e-6  # type: ignore[operator]
    assert report["speedup"]["median"] > 1  # type: ignore[index]
