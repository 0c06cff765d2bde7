"""A Kubernetes cluster, as its users see it: changed through kubectl, read by HTTP."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.brokers.process import Process
from tests.deploy.tools import answer_of
from tests.deployment import until

NAMESPACE = "cellstream"
UP_WITHIN_S = 600  # on a machine that is busy
# Kubernetes 1.34.1 says so of every Service without an address: https://github.com/kubernetes/kubernetes/issues/134040
WRONG_WARNING = "Warning: spec.SessionAffinity is ignored for headless services"
API = {
    "pods": "api/v1",
    "persistentvolumeclaims": "api/v1",
    "statefulsets": "apis/apps/v1",
    "poddisruptionbudgets": "apis/policy/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
}

Resource = dict[str, Any]


class Cluster:
    """A cluster that runs. Reading by HTTP costs less than a start of kubectl, and tells the status.

    Args:
        programs: the directory that has kubectl.
        directory: has `kubeconfig`.
        server: the API server's address.
        login: the header of a request, and the server's certificate.
        processes: what it is made of.
    """

    def __init__(
        self, programs: Path, directory: Path, server: str, login: tuple[str, Path], processes: list[Process]
    ) -> None:
        self._kubectl = programs / "kubectl"
        self._environment = {"KUBECONFIG": str(directory / "kubeconfig"), "KUBECACHEDIR": str(directory / "kubectl")}
        self._server = server
        self._header = login[0]
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(login[1])))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
        self._processes = processes

    def __call__(self, *arguments: str | Path, stdin: str = "", within_s: float = UP_WITHIN_S) -> str:
        """What `kubectl ARGUMENTS` writes.

        Raises:
            AssertionError: it failed; with all that it wrote.
        """
        return answer_of([self._kubectl, *arguments], stdin=stdin, within_s=within_s, **self._environment)

    def apply(self, directory: Path, *flags: str) -> list[str]:
        """Apply what is built from a directory; what the server says of each resource.

        Raises:
            AssertionError: it refused one, or warned.
        """
        done = self._run("apply", "--kustomize", directory, "--validate=strict", *flags)
        assert done.returncode == 0, done.stderr
        warnings = {line for line in done.stderr.splitlines() if line.startswith("Warning: ")}
        assert warnings <= {WRONG_WARNING}, done.stderr
        return list(done.stdout.splitlines())

    def refusal(self, *arguments: str | Path, stdin: str = "") -> str:
        """What kubectl writes of a request that the server refuses.

        Raises:
            AssertionError: it was not refused.
        """
        done = self._run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"accepted: {done.stdout}"
        return str(done.stderr)

    def _run(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command, environment = [self._kubectl, *arguments], {**os.environ, **self._environment}
        return subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, input=stdin, timeout=UP_WITHIN_S
        )

    def process(self, log: Path, *arguments: str) -> Process:
        """`kubectl ARGUMENTS`, which goes on."""
        return Process([self._kubectl, *arguments], log, self._environment)

    def ask(self, path: str, body: Resource | None = None, method: str = "GET") -> tuple[int, str]:
        """Status and text of what the API server answers."""
        sent = None if body is None else json.dumps(body).encode()
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": self._header, "Content-Type": kind}
        request = urllib.request.Request(f"{self._server}/{path}", sent, headers, method=method)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def read(self, kind: str, name: str = "") -> Resource:
        """A resource of the workers' namespace by its plural kind and its name, or a list of all."""
        status, text = self.ask(f"{API[kind]}/namespaces/{NAMESPACE}/{kind}/{name}".rstrip("/"))
        assert status == 200, text
        return dict(json.loads(text))

    def create(self, *resources: Resource) -> None:
        """Make resources that are not there."""
        self("create", "--filename", "-", stdin=yaml.safe_dump_all(resources))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while the cluster lives."""
        until(condition, what, *self._processes, within_s=UP_WITHIN_S)

    def empty(self) -> None:
        """Remove all that was applied, and give the next claim a volume that all nodes share."""
        names = ("namespace/cellstream", "persistentvolume/shared")
        self("delete", "--ignore-not-found", "--wait", *names)
        self.create(_volume())


def _volume() -> Resource:
    """What a storage class with ReadWriteMany would make for the workers' claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "shared"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "20Gi"},
            "hostPath": {"path": "/nowhere"},
            "persistentVolumeReclaimPolicy": "Retain",
        },
    }
