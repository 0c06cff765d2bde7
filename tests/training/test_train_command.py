"""Laws of `cellstream train`: what it writes, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.history import write_history
from worker.artifact import read_artifact

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
    done = train("sales.csv", "--out", str(tmp_path / "artifact"))
    assert done.returncode == 2
    assert "basic-motions and japanese-vowels are bundled" in done.stderr
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


def test_history_replaces_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for best in (1, 2):
        write_history({"loss": [3.0, 2.0], "val_loss": [2.5, 2.0]}, best, tmp_path, "made")
    assert json.loads((tmp_path / "history.json").read_text())["best_epoch"] == 2
    assert sorted(os.listdir(tmp_path)) == ["history.json", "history.png"]
