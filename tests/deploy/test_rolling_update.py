"""Laws of a rolling update: real workers, told what the StatefulSet tells its pods, are replaced in its order."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.chaos.checker import Watch, hold
from tests.chaos.checker.broker import list_transactions
from tests.chaos.nursery import Nursery
from tests.chaos.traffic import publish
from tests.deploy.manifests import container, only, variables_of
from tests.deployment import Deployment, until, until_read

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

PARTITIONS = {0, 1, 2, 3}
MOVES = ("assigned", "revoked", "lost")


class Pod:
    """One pod of the StatefulSet, by its stable name; a process of this machine in the place of a container.

    Args:
        name: with its ordinal.
        deployment: topics, checkpoints and artifact, which a cluster would give.
        nursery: forks the worker.
    """

    def __init__(self, name: str, deployment: Deployment, nursery: Nursery) -> None:
        self.name = name
        self._deployment = deployment
        self._nursery = nursery
        self._lives = 0
        self.start()

    def start(self) -> None:
        """Start the image's command with the pod's environment, but for what is true of this machine alone."""
        of_the_image = {
            "CELLSTREAM_ARTIFACT": str(self._deployment.artifact),
            "CELLSTREAM_CHECKPOINTS": str(self._deployment.checkpoints),
        }
        here = {
            "CELLSTREAM_BOOTSTRAP_SERVERS": self._deployment.cluster.bootstrap_servers,
            "CELLSTREAM_GROUP_ID": self._deployment.group_id,
            "CELLSTREAM_INPUT_TOPIC": self._deployment.input_topic,
            "CELLSTREAM_OUTPUT_TOPIC": self._deployment.output_topic,
            "CELLSTREAM_DEAD_LETTER_TOPIC": self._deployment.dead_letter_topic,
            "CELLSTREAM_METRICS_HOST": "127.0.0.1",
            "CELLSTREAM_METRICS_PORT": "0",
            "CELLSTREAM_KAFKA__SESSION_TIMEOUT_MS": "300000",  # a machine that is busy takes longer to start a worker
        }
        told = variables_of("base", self.name)
        assert here.keys() <= told.keys()
        command = [Path(sys.executable).with_name("cellstream"), *container("base").get("args", ["run"])]
        log = self._deployment.directory / f"{self.name}-{self._lives}.log"
        self.process: Process = self._nursery.start(command, log, told | of_the_image | here)
        self._lives += 1

    def replace(self) -> None:
        """What kubelet and controller do: SIGTERM, and the same name again."""
        grace_s = only("base", "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        code = self.process.stop(timeout_s=2 * grace_s)  # of a machine that may be busy
        assert code == 0, f"{self.name} ended with {code}\n{self.process.tail()}"
        self.start()

    @property
    def ready(self) -> bool:
        """What the readiness probe finds."""
        address = next((line["address"] for line in self._lines() if line["event"] == "metrics"), None)
        if address is None:
            return False
        path = container("base")["readinessProbe"]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(address.removesuffix("/metrics") + path, timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    @property
    def moves(self) -> list[tuple[str, list[int]]]:
        """What this life was given and gave up."""
        return [(line["event"], line["partitions"]) for line in self._lines() if line["event"] in MOVES]

    @property
    def partitions(self) -> set[int]:
        """What it has now."""
        held: set[int] = set()
        for event, partitions in self.moves:
            held = held | set(partitions) if event == "assigned" else held - set(partitions)
        return held

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in self.process.log.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):  # not the one that is being written
                yield json.loads(line)


@contextmanager
def stateful_set(deployment: Deployment, nursery: Nursery) -> Iterator[list[Pod]]:
    """As many pods as the manifest says, by their ordinals; all at once, as it has them started."""
    spec = only("base", "StatefulSet")
    assert spec["spec"]["podManagementPolicy"] == "Parallel"
    pods: list[Pod] = []
    try:
        for ordinal in range(spec["spec"]["replicas"]):
            pods.append(Pod(f"{spec['metadata']['name']}-{ordinal}", deployment, nursery))
        yield pods
    finally:
        for pod in pods:
            pod.process.kill()


def test_a_rolling_update_moves_no_partition_and_answers_every_record_once(
    kafka: TestCluster, artifact: Path, tmp_path: Path, nursery: Nursery
) -> None:
    deployment = Deployment.create(kafka, artifact, tmp_path)
    admin = AdminClient(dict(kafka.conf))
    inputs = publish(kafka, deployment.input_topic, 400, streams=50)

    def group() -> Any:
        return admin.describe_consumer_groups([deployment.group_id])[deployment.group_id].result(30)

    with Watch(deployment) as watch, stateful_set(deployment, nursery) as pods:
        names = [pod.name for pod in pods]

        def wait(condition: Any, what: str) -> None:
            until(condition, what, *(pod.process for pod in pods))

        def settled() -> bool:
            held = [pod.partitions for pod in pods]
            each_has_its_own = sum(map(len, held)) == len(PARTITIONS) and set().union(*held) == PARTITIONS and all(held)
            return each_has_its_own and all(pod.ready for pod in pods) and group().state == ConsumerGroupState.STABLE

        wait(settled, "ready workers that share the partitions")
        assert sorted(member.group_instance_id for member in group().members) == names
        before = {pod.name: pod.partitions for pod in pods}
        first_lives = {pod.name: pod.moves for pod in pods}
        for seed, pod in enumerate(reversed(pods), start=2):
            assert pod.moves == first_lives[pod.name], "moved by the restart of another"
            inputs += publish(kafka, deployment.input_topic, 400, streams=50, seed=seed)
            pod.replace()
            wait(lambda pod=pod: pod.ready, f"{pod.name} to be ready")
        until_read(watch, sum(record.is_sample for record in inputs), *(pod.process for pod in pods))
        assert sorted(member.group_instance_id for member in group().members) == names
        for pod in pods:
            assert [(event, set(moved)) for event, moved in pod.moves] == [("assigned", before[pod.name])]
        for pod in pods:
            pod.process.terminate()
        assert [pod.process.wait(120) for pod in pods] == [0] * len(pods), [pod.process.tail() for pod in pods]
    assert hold(deployment, inputs, watch=watch) == []
    brokers = AdminClient(dict(kafka.conf)).list_topics(timeout=30).brokers.values()
    known = {one.transactional_id for broker in brokers for one in list_transactions((broker.host, broker.port))}
    ours = {name for name in known if name.startswith(f"{deployment.group_id}-")}
    assert ours == {f"{deployment.group_id}-{name}" for name in names}, "two lives each, one transactional.id"
