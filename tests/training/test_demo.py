"""Laws of `cellstream demo` as a process: every answer is right, and nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

COMMAND = (sys.executable, "-c", "from worker.cli import main; main()", "demo")
GONE_S = 20.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache of its own, and the settings of a cluster that the demo must not look for."""
    return {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "CELLSTREAM_BOOTSTRAP_SERVERS": "broker.invalid:9092",
        "CELLSTREAM_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "CELLSTREAM_SEQUENCE_LENGTH": "7",
    }


@pytest.fixture(scope="module")
def first_run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--json", "--rate", "50"], env=environment, capture_output=True, text=True, timeout=250, check=False
    )


@contextmanager
def demo(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The demo's worker, as soon as there is one."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        if children:
            return children[0]
        time.sleep(0.02)
    raise AssertionError(f"no worker was started, exit code {process.poll()}")


def test_every_sample_has_one_probability_that_equals_keras(first_run: subprocess.CompletedProcess[str]) -> None:
    assert first_run.returncode == 0, first_run.stderr
    report = json.loads(first_run.stdout)
    assert report["problems"] == []
    assert (report["samples"], report["probabilities"], report["missing"], report["doubled"]) == (2000, 2000, 0, 0)
    assert 0 <= report["largest_difference"] <= report["limit"] < 1e-5
    assert report["accuracy"]["100%"] >= 0.9
    assert 0 < report["latency_p50_ms"] <= report["latency_p99_ms"]


@pytest.mark.usefixtures("first_run")
def test_a_second_run_takes_the_artifact_from_the_cache(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "--streams", "3", "--rate", "100"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "training" not in done.stdout
    assert "samples in         300" in done.stdout
    assert "100%  300 samples in, 300 probabilities out" in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("first_run")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_as_the_worker_starts_leaves_nothing_running(environment: dict[str, str], number: int) -> None:
    with demo(environment) as process:
        worker = worker_of(process)
        process.send_signal(number)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 130, output
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
        assert output.endswith("stopped; nothing is left running\n")


@pytest.mark.usefixtures("first_run")
def test_ctrl_c_in_the_middle_of_the_replay_leaves_nothing_running(environment: dict[str, str]) -> None:
    with demo(environment) as process:
        worker = worker_of(process)
        assert process.stdout is not None
        while " 25%" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 130, output
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
        assert "Traceback" not in output


@pytest.mark.usefixtures("first_run")
def test_a_killed_demo_takes_its_worker_with_it(environment: dict[str, str]) -> None:
    with demo(environment) as process:
        worker = worker_of(process)
        process.kill()
        worker.wait(GONE_S)


def test_ctrl_c_while_training_leaves_no_artifact(environment: dict[str, str], tmp_path: Path) -> None:
    with demo({**environment, "XDG_CACHE_HOME": str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("training on 44 recordings")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 130, output
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.usefixtures("first_run")
def test_more_streams_than_recordings_is_wrong_usage(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "--streams", "21"], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 2
    assert "there are 20 held-out recordings" in done.stderr
