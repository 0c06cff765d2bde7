"""Laws of `cellstream train`: what it writes, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from training.history import write_history
from worker import StreamingModel
from worker.artifact import read_artifact
from worker.cli import app
from worker.errors import UsageError

COMMAND = (sys.executable, "-c", "from worker.cli import main; main()", "train")


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_basic_motions_reaches_its_accuracy(tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    done = train("basic-motions", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["accuracy"]["100%"] >= 0.9
    artifact = read_artifact(out)
    assert artifact.digest == facts["digest"]
    assert artifact.manifest.classes == ("badminton", "running", "standing", "walking")
    assert artifact.manifest.training is not None
    assert artifact.manifest.training["accuracy"] == facts["accuracy"]
    assert artifact.manifest.scaling is not None
    assert set(artifact.manifest.scaling) == set(artifact.manifest.features)
    history = json.loads((out / "history.json").read_text())
    assert len(history["loss"]) == len(history["val_loss"]) == facts["epochs"]
    assert history["val_loss"][history["best_epoch"] - 1] == min(history["val_loss"])
    assert (out / "history.png").read_bytes().startswith(b"\x89PNG")
    assert "\x1b" not in done.stderr  # no bar where nobody looks


@pytest.mark.slow
def test_the_same_seed_gives_the_same_artifact_in_every_process(tmp_path: Path) -> None:
    digests = []
    for name in "ab":
        done = train("japanese-vowels", "--out", str(tmp_path / name), "--epochs", "1", "--seed", "5", "--json")
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(done.stdout)["digest"])
    assert digests[0] == digests[1]
    assert (tmp_path / "a" / "model.keras").read_bytes() == (tmp_path / "b" / "model.keras").read_bytes()


def test_an_unknown_data_set_is_wrong_usage_and_names_those_that_exist(tmp_path: Path) -> None:
    done = train("sales", "--out", str(tmp_path / "artifact"))
    assert done.returncode == 2
    assert "basic-motions and japanese-vowels are bundled" in done.stderr
    assert "a table is a file with a suffix" in done.stderr
    assert not (tmp_path / "artifact").exists()


def runs() -> pd.DataFrame:
    """Thirty runs of 5 to 9 rows, mixed; pressure tells the state."""
    chance = np.random.default_rng(4)
    rows = [
        (f"run-{i}", at, chance.normal() + 2 * (i % 2), chance.normal(), ("ok", "worn")[i % 2])
        for i in range(30)
        for at in range(5 + i % 5)
    ]
    return pd.DataFrame([rows[i] for i in chance.permutation(len(rows))], columns=["run", "at", "p", "q", "state"])


COLUMNS = ("--stream-id", "run", "--label", "state", "--features", "p,q", "--order", "at")


@pytest.mark.slow
def test_a_table_gives_the_same_artifact_from_a_file_and_from_a_database(tmp_path: Path) -> None:
    table = runs()
    table.to_csv(tmp_path / "runs.csv", index=False)
    connection = sqlite3.connect(tmp_path / "runs.db")
    table.to_sql("runs", connection, index=False)
    connection.close()
    told = []
    for suffix in ("csv", "db"):
        out = tmp_path / suffix
        done = train(
            str(tmp_path / f"runs.{suffix}"), *COLUMNS, "--out", str(out), "--epochs", "3", "--seed", "2", "--json"
        )
        assert done.returncode == 0, done.stderr
        assert "class 'worn': 15 sequences" in done.stderr
        told.append(json.loads(done.stdout))
    assert told[0]["digest"] == told[1]["digest"]
    assert told[0]["data"] == told[1]["data"]
    artifact = read_artifact(tmp_path / "csv")
    assert (artifact.manifest.features, artifact.manifest.classes) == (("p", "q"), ("worn",))
    assert artifact.manifest.training is not None
    assert artifact.manifest.training["dataset"] == "runs"
    assert (tmp_path / "csv" / "history.png").exists()
    answers = StreamingModel.load(tmp_path / "db").run(table.loc[table["run"] == "run-3", ["p", "q"]].to_numpy())
    assert answers.shape == (8, 1)


def test_a_table_needs_to_be_told_its_columns(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "sales.csv", "--label", "state", "--out", str(tmp_path / "artifact")])
    assert isinstance(done.exception, UsageError)
    assert "which columns to use with --stream-id, --features" in str(done.exception)


def test_a_bundled_set_has_its_columns(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "basic-motions", *COLUMNS, "--out", str(tmp_path / "artifact")])
    assert isinstance(done.exception, UsageError)
    assert "leave out --stream-id, --label, --features, --order" in str(done.exception)


def test_a_table_without_a_suffix_is_not_taken_for_a_bundled_set(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "runs", *COLUMNS, "--out", str(tmp_path / "artifact")])
    assert isinstance(done.exception, UsageError)
    assert "no data set 'runs'" in str(done.exception)


def test_an_unknown_preset_names_those_that_exist(tmp_path: Path) -> None:
    arguments = ["train", "basic-motions", "--preset", "transformer", "--out", str(tmp_path / "artifact")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert "expected one of lstm, gru, conv-gru, seed-32-16-8" in str(done.exception)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--resume", "a"), "apart from that of the artifact"),
        (("--resume", "a/memory"), "apart from that of the artifact"),
        (("--resume", "."), "apart from that of the artifact"),
        (("--split", "weeks"), "expected chance or time"),
        (("--split", "time"), "not known which streams came first"),
        (("--recipe", "recipe.toml", "--preset", "gru"), "leave out one of them"),
        (("--recipe", "recipe.toml", "--smoothing", "0.3"), "such as --folds 4"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text("[network]\nkernel = 3\n")
    done = CliRunner().invoke(app, ["train", "basic-motions", "--out", "a", *more])
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)
    assert sorted(os.listdir()) == ["recipe.toml"]


def test_a_bad_table_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    runs().assign(p="high").to_csv(tmp_path / "runs.csv", index=False)
    done = CliRunner().invoke(app, ["train", str(tmp_path / "runs.csv"), *COLUMNS, "--out", str(tmp_path / "artifact")])
    assert isinstance(done.exception, UsageError)
    assert "column 'p', row 1 ('high'), 2 ('high')" in str(done.exception)
    assert not (tmp_path / "artifact").exists()


def test_a_file_in_the_way_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = train("basic-motions", "--out", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "expected a directory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_leaves_a_whole_artifact_or_none(tmp_path: Path, times: int) -> None:
    out = tmp_path / "artifact"
    process = subprocess.Popen(
        [*COMMAND, "basic-motions", "--out", str(out), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(8)  # somewhere in importing or training; each place has to be safe
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    stdout, stderr = process.communicate(timeout=240)
    if process.returncode == 0:
        assert json.loads(stdout)["digest"] == read_artifact(out).digest
    else:
        assert not (out / "manifest.json").exists(), stderr


@pytest.mark.parametrize(
    ("more", "told"), [((), "nothing written\n"), (("--resume", "m"), "goes on from what is in m\n")]
)
def test_an_interrupted_ensemble_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.folds.fit_folds", interrupted)
    done = CliRunner().invoke(app, ["train", "basic-motions", "--folds", "2", "--out", "a", *more])
    assert done.exit_code == 130
    assert done.stderr.endswith(told)
    assert not Path("a").exists()


def test_history_replaces_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for best in (1, 2):
        write_history({"loss": [3.0, 2.0], "val_loss": [2.5, 2.0]}, best, tmp_path, "made")
    assert json.loads((tmp_path / "history.json").read_text())["best_epoch"] == 2
    assert sorted(os.listdir(tmp_path)) == ["history.json", "history.png"]
