"""The workers' pods: what they are now, and everything that they were since a watch began."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kubernetes.cluster import NAMESPACE, Cluster, Resource


@dataclass(frozen=True)
class Pod:
    """What counts of a pod."""

    name: str
    uid: str
    image: str
    settings: str
    claim: str
    node: str | None
    revision: str
    version: str
    running: bool
    available: bool

    @classmethod
    def of(cls, resource: Resource) -> Pod:
        """A pod that is about to end counts as gone."""
        (worker,) = resource["spec"]["containers"]
        known = {one["type"]: one["status"] for one in resource["status"].get("conditions", [])}
        going = "deletionTimestamp" in resource["metadata"]
        claims = [one["persistentVolumeClaim"] for one in resource["spec"]["volumes"] if "persistentVolumeClaim" in one]
        return cls(
            name=resource["metadata"]["name"],
            uid=resource["metadata"]["uid"],
            image=worker["image"],
            settings=worker["envFrom"][0]["configMapRef"]["name"],
            claim=claims[0]["claimName"],
            node=resource["spec"].get("nodeName"),
            revision=resource["metadata"]["labels"]["controller-revision-hash"],
            version=resource["metadata"]["resourceVersion"],
            running=resource["status"]["phase"] == "Running" and not going,
            available=known.get("Ready") == "True" and not going,
        )


def pods(cluster: Cluster) -> list[Pod]:
    """Those of now, by their ordinals."""
    found = map(Pod.of, cluster.read("pods")["items"])
    return sorted(found, key=lambda pod: int(pod.name.rpartition("-")[2]))


def settled(cluster: Cluster, count: int) -> bool:
    """Whether so many workers are available, as the StatefulSet wants them, and one may be drained."""
    stateful, budget = cluster.read("statefulsets", "cellstream"), cluster.read("poddisruptionbudgets", "cellstream")
    status, now = stateful["status"], pods(cluster)
    return (
        status.get("observedGeneration") == stateful["metadata"]["generation"]
        and stateful["spec"]["replicas"] == len(now) == count
        and all(pod.available and pod.revision == status["updateRevision"] for pod in now)
        and budget["status"].get("disruptionsAllowed") == 1
        and budget["status"]["currentHealthy"] == count
    )


class History:
    """Every change of every pod since a watch began, in the API server's order.

    Args:
        cluster: to watch.
        log: what kubectl writes of the watch.
        count: pods that there were when it began, all of them available.
    """

    def __init__(self, cluster: Cluster, log: Path, count: int) -> None:
        self._cluster = cluster
        self._log = log
        self._count = count

    def changes(self) -> list[tuple[str, Pod]]:
        """What happened and the pod after it, without the pods of the beginning."""
        return self._seen()[self._count :]

    def created(self) -> list[Pod]:
        """Pods in the order of their creation, as they were then."""
        return [pod for happened, pod in self.changes() if happened == "ADDED"]

    def least_available(self) -> int:
        """How many workers there were at the worst moment."""
        available = {pod.name for _, pod in self._seen()[: self._count] if pod.available}
        assert len(available) == self._count, available
        least = len(available)
        for happened, pod in self.changes():
            if pod.available and happened != "DELETED":
                available.add(pod.name)
            else:
                available.discard(pod.name)
            least = min(least, len(available))
        return least

    def catch_up(self) -> None:
        """Wait until it has seen the pods of now."""
        wanted = set(pods(self._cluster))
        self._cluster.until(lambda: wanted <= {pod for _, pod in self._seen()}, "the watch to catch up")

    def _seen(self) -> list[tuple[str, Pod]]:
        text, decoder = self._log.read_text().strip(), json.JSONDecoder()
        found = []
        while text:
            try:
                event, end = decoder.raw_decode(text)
            except json.JSONDecodeError:  # the one that is being written
                break
            found.append((event["type"], Pod.of(event["object"])))
            text = text[end:].lstrip()
        return found


@contextmanager
def watch(cluster: Cluster, log: Path) -> Iterator[History]:
    """The history of the pods from now on, all of which must be available.

    Args:
        cluster: to watch.
        log: a file that is not there.
    """
    count = len(pods(cluster))
    listing = ("get", "pods", "--namespace", NAMESPACE, "--watch", "--output-watch-events", "--output", "json")
    process = cluster.process(log, *listing)
    history = History(cluster, log, count)
    try:
        history.catch_up()
        yield history
        history.catch_up()
        assert process.returncode is None, process.tail()
    finally:
        process.kill()
