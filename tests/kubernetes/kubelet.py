"""What the kubelets of all nodes say of their pods, without running them.

A pod that has a node runs, and is ready a moment later unless its image is tagged `broken`; one that was deleted is
gone a moment later. A moment is a turn of this thread, so that every state in between can be seen.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

from tests.kubernetes.cluster import NAMESPACE, Cluster, Resource

TURN_S = 0.5
BROKEN = ":broken"
CHANGED_MEANWHILE = (404, 409)


class Kubelet:
    """A thread that writes the status of pods until it is stopped.

    Args:
        cluster: whose pods.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._addresses = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait for its end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TURN_S):
            for pod in self._cluster.read("pods")["items"]:
                if "deletionTimestamp" in pod["metadata"]:
                    exactly = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
                    self._ask("DELETE", pod["metadata"]["name"], exactly)
                elif "nodeName" in pod["spec"]:
                    self._advance(pod)

    def _advance(self, pod: Resource) -> None:
        known = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
        images = [one["image"] for one in pod["spec"]["containers"]]
        if pod["status"]["phase"] == "Pending":
            self._addresses += 1
            address = f"10.1.{self._addresses // 250}.{self._addresses % 250 + 1}"
            self._tell(pod, ready=False, phase="Running", podIP=address, podIPs=[{"ip": address}])
        elif known["Ready"] == "False" and not any(image.endswith(BROKEN) for image in images):
            self._tell(pod, ready=True)

    def _tell(self, pod: Resource, ready: bool, **more: object) -> None:
        """Write a pod's status."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        true = {"Initialized": True, "ContainersReady": ready, "Ready": ready}
        conditions = [{"type": name, "status": str(is_so), "lastTransitionTime": now} for name, is_so in true.items()]
        containers = [
            {"ready": ready, "restartCount": 0, "imageID": "", "state": {"running": {"startedAt": now}}}
            | {name: one[name] for name in ("name", "image")}
            for one in pod["spec"]["containers"]
        ]
        status = {"conditions": conditions, "containerStatuses": containers, **more}
        self._ask(
            "PATCH",
            f"{pod['metadata']['name']}/status",
            {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status},
        )

    def _ask(self, method: str, name: str, body: Resource) -> None:
        status, text = self._cluster.ask(f"api/v1/namespaces/{NAMESPACE}/pods/{name}", body, method)
        assert status == 200 or status in CHANGED_MEANWHILE, json.loads(text)
