"""Laws of what is applied: a real API server takes all of it without a word of warning, and no mistake."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy.broken import BROKEN, BROKEN_CUSTOM, broken
from tests.deploy.manifests import BUILDS, ROOT, only
from tests.kubernetes.cluster import NAMESPACE, Cluster, Resource

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]  # the first one builds

MISTAKES = "mistakes"
RIGHTS: dict[str, Callable[[Resource], Any]] = {
    "runAsNonRoot": lambda pod: pod["securityContext"].update(runAsNonRoot=False),
    "seccompProfile": lambda pod: pod["securityContext"].pop("seccompProfile"),
    "capabilities": lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"),
    "privileged": lambda pod: pod["containers"][0]["securityContext"].update(
        privileged=True, allowPrivilegeEscalation=True
    ),
    "hostNetwork": lambda pod: pod.update(hostNetwork=True),
    "hostPath": lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
}


@pytest.fixture(scope="module")
def mistakes(cluster: Cluster) -> str:
    """A namespace for what is refused."""
    cluster("create", "namespace", MISTAKES)
    return MISTAKES


@pytest.fixture
def guarded(cluster: Cluster) -> Cluster:
    """The cluster with the workers' namespace, which says what its pods may do, and their service account."""
    for kind in ("Namespace", "ServiceAccount"):
        cluster("apply", "--filename", "-", stdin=yaml.safe_dump(only("base", kind)))
    return cluster


def pod() -> Resource:
    """One of the StatefulSet's, alone."""
    template = copy.deepcopy(only("base", "StatefulSet")["spec"]["template"])
    metadata = {"name": "alone", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize("name", BUILDS)
def test_the_server_takes_every_field_and_finds_nothing_to_change_the_second_time(name: str, empty: Cluster) -> None:
    build, namespace = ROOT / "kubernetes" / name, ROOT / "kubernetes" / "base" / "namespace.yaml"
    parts = list(yaml.safe_load_all(empty("kustomize", build)))
    for way in (["--server-side"], []):  # the namespace must be there, and as this way remembers it
        empty("apply", *way, "--filename", namespace)
        assert len(empty.apply(build, "--dry-run=server", *way)) == len(parts)
    assert len(empty.apply(build)) == len(parts)
    assert empty("diff", "--kustomize", build) == "", "what a second apply would change"


@pytest.mark.parametrize(("kind", "path", "value"), BROKEN + BROKEN_CUSTOM)
def test_the_server_refuses_a_mistake(kind: str, path: str, value: object, cluster: Cluster, mistakes: str) -> None:
    resource = broken(kind, path, value)
    resource["metadata"]["namespace"] = mistakes
    create = ("create", "--dry-run=server", "--validate=strict", "--filename", "-")
    refused = cluster.refusal(*create, stdin=yaml.safe_dump(resource))
    assert "strict decoding error" in refused or " is invalid: " in refused or "BadRequest" in refused, refused


def test_a_pod_of_the_workers_needs_no_rights(guarded: Cluster) -> None:
    guarded("create", "--dry-run=server", "--filename", "-", stdin=yaml.safe_dump(pod()))


@pytest.mark.parametrize("right", RIGHTS)
def test_the_namespace_takes_no_pod_with_a_right_more(right: str, guarded: Cluster) -> None:
    wanting = pod()
    RIGHTS[right](wanting["spec"])
    refused = guarded.refusal("create", "--dry-run=server", "--filename", "-", stdin=yaml.safe_dump(wanting))
    assert "violates PodSecurity" in refused
