"""A whole worker whose checkpoints are in an object store, on a real broker: an outage, kill -9, and a restore."""

from __future__ import annotations

import re
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Watch, hold
from tests.chaos.traffic import publish
from tests.deployment import Deployment, until, until_read
from tests.stores.clouds import Cloud
from tests.stores.proxy import Proxy
from tests.stores.servers import KINDS, REAL, Server
from worker.checkpoint.pointer import NAME

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RECORDS = 3000
# Beside other servers and brokers a worker takes long to start.
wait, wait_for_records = (partial(waiting, within_s=400) for waiting in (until, until_read))


def store_up(worker: Process) -> bool:
    """What its metric says."""
    found = re.search(r"address=\D*(\S+:\d+)", worker.tail(1_000_000))
    assert found, worker.tail()
    with urllib.request.urlopen(f"http://{found[1]}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    value = re.search(r"^cellstream_checkpoint_store_up (\S+)$", text, re.MULTILINE)
    assert value, text
    return float(value[1]) == 1


def said(worker: Process, event: str) -> int:
    return worker.tail(1_000_000).count(event)


@pytest.mark.parametrize("server", KINDS if REAL else ["s3"], indirect=True)
@pytest.mark.timeout(3000)
def test_store_that_is_down_delays_checkpoints_and_no_record_and_a_killed_worker_comes_back_exactly_once(
    kafka: TestCluster, artifact: Path, server: Server, cloud: Cloud, proxy: Proxy, url: str, tmp_path: Path
) -> None:
    deployment = Deployment.create(
        kafka, artifact, tmp_path, "--checkpoints", url, "--checkpoint-interval-s", "0.5", "--poll-records", "500"
    )
    inputs = []

    def samples() -> int:
        return sum(record.is_sample for record in inputs)

    with Watch(deployment) as watch:
        inputs += publish(kafka, deployment.input_topic, RECORDS)
        worker = deployment.start_worker()
        wait_for_records(watch, samples(), worker)
        wait(lambda: proxy.did("write", NAME) and store_up(worker), "a checkpoint", worker)

        proxy.harm = lambda kind, path: "refuse"
        inputs += publish(kafka, deployment.input_topic, RECORDS)
        wait_for_records(watch, samples(), worker)  # no record waits for the store
        wait(lambda: said(worker, "checkpoint_failed") > 0 and not store_up(worker), "a failed checkpoint", worker)
        worker.kill()
        inputs += publish(kafka, deployment.input_topic, RECORDS)
        worker = deployment.start_worker()
        wait(lambda: said(worker, "restore_postponed") > 0 and not store_up(worker), "a wait for the store", worker)
        proxy.harm = lambda kind, path: None
        wait_for_records(watch, samples(), worker)
        assert said(worker, "source=checkpoint"), worker.tail()
        wait(lambda: store_up(worker), "the store again", worker)
        assert worker.stop() == 0, worker.tail()
    for key, content in cloud.contents(server.endpoint, url.split("/")[2]).items():
        path = deployment.checkpoints / key.removeprefix("some/prefix/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert len(list(deployment.checkpoints.rglob("*.h5"))) >= 4
    assert hold(deployment, inputs, watch=watch) == []
