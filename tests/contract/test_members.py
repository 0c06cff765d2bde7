"""`cellstream run --workers N`: several processes that are one worker to whoever runs it."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import check
from tests.chaos.traffic import publish
from tests.deployment import Deployment, Reader, output, read_all, until, until_read

pytestmark = pytest.mark.slow

RECORDS = 2_000
WORKERS = 2


def metrics(worker: Process) -> dict[tuple[str, str], float]:
    """(name, worker) -> the sum of the worker's series of that name."""
    sums: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page(worker, "/metrics")[1]):
        for sample in family.samples:
            place = (sample.name, sample.labels["worker"])  # each series says whose it is
            sums[place] = sums.get(place, 0.0) + sample.value
    return sums


def page(worker: Process, path: str) -> tuple[int, str]:
    """Status and text of a page of the supervisor's port, which its log names."""
    found = re.search(r"supervising.*metrics=http://(\S+)/metrics", worker.log.read_text())
    assert found, worker.tail()
    try:
        with urllib.request.urlopen(f"http://{found[1]}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def pids(worker: Process) -> list[int]:
    """Of the members, in the order of their starts."""
    return [int(pid) for pid in re.findall(r"worker_started.*pid=(\d+)", worker.log.read_text())]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_member_that_died_is_started_again_and_nothing_is_lost_or_doubled(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path, "--workers", str(WORKERS))
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50, seed=3)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, sum(record.is_sample for record in inputs), worker)
        until(lambda: page(worker, "/ready")[0] == 200, "all members to be ready", worker)
        first = pids(worker)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(pids(worker)) == WORKERS + 1, "the member to be started again", worker)
        until(lambda: page(worker, "/ready")[0] == 200, "all members to be ready again", worker)
        assert page(worker, "/live")[0] == 200
        inputs += publish(kafka, deployment.input_topic, RECORDS, streams=50, seed=3)
        until_read(reader, sum(record.is_sample for record in inputs), worker)
        counted = metrics(worker)
        assert {name for _, name in counted} == {f"worker-0-{number}" for number in range(WORKERS)}
        assert counted["cellstream_worker_restarts_total", "worker-0-0"] == 1
        assert all(counted["cellstream_worker_up", f"worker-0-{number}"] == 1 for number in range(WORKERS))
        assert sum(value for (name, _), value in counted.items() if name == "cellstream_live_streams") > 0
        assert worker.stop() == 0, worker.tail()
        assert not any(map(is_there, pids(worker)))
    violations = check(inputs, list(map(output, read_all(kafka, deployment.output_topic))))
    assert not violations, f"{len(violations)} violations, first: {violations[:10]}"


def test_what_a_restart_would_only_repeat_ends_all_with_its_exit_code(
    kafka: TestCluster, artifact: Path, tmp_path: Path
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path, "--workers", str(WORKERS))
    with deployment.worker("worker-0", "--input-topic", kafka.unique("nobody-created-this")) as worker:
        until(lambda: worker.returncode is not None, "the end")
        assert worker.returncode == 3, worker.tail()
        assert "cellstream topics" in worker.tail()
        assert len(pids(worker)) == WORKERS


def test_members_whose_supervisor_was_killed_finish_and_go(kafka: TestCluster, artifact: Path, tmp_path: Path) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path, "--workers", str(WORKERS))
    inputs = publish(kafka, deployment.input_topic, RECORDS, streams=50, seed=5)
    with Reader(kafka, deployment.output_topic) as reader, deployment.worker() as worker:
        until_read(reader, sum(record.is_sample for record in inputs), worker)
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not any(map(is_there, pids(worker))), "the members to go")
    assert sum(max(0, offset) for offset in deployment.committed()) == len(inputs)
