"""The manifests as kustomize builds them, and what a container of theirs is told."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import answer_of, kustomize
from worker.settings import Settings
from worker.settings.sources import load_settings

ROOT = Path(__file__).parents[2] / "deploy"
BUILDS = ["base", "overlays/keda", "overlays/strimzi", "overlays/prometheus", "overlays/all"]

Resource = dict[str, Any]


@functools.cache
def build(name: str) -> tuple[Resource, ...]:
    """What kubectl would apply."""
    return tuple(yaml.safe_load_all(answer_of([*kustomize(), ROOT / "kubernetes" / name])))


def only(name: str, kind: str, called: str = "") -> Resource:
    """The one resource of a kind."""
    (found,) = (one for one in build(name) if one["kind"] == kind and called in ("", one["metadata"]["name"]))
    return found


def container(name: str) -> Resource:
    """The worker's."""
    (found,) = only(name, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return found


def variables_of(name: str, pod: str) -> dict[str, str]:
    """The environment that Kubernetes gives to the worker in a pod of this name; secrets are called `secret`."""
    referred = container(name)["envFrom"][0]["configMapRef"]["name"]
    variables = dict(only(name, "ConfigMap", referred)["data"])
    for one in container(name)["env"]:
        origin = one.get("valueFrom", {})
        if "fieldRef" in origin:
            assert origin["fieldRef"]["fieldPath"] == "metadata.name"
        variables[one["name"]] = pod if "fieldRef" in origin else one.get("value", "secret")
    return variables


def settings_of(name: str) -> Settings:
    """What a worker in the pod `cellstream-1` is told; raises for anything that it would refuse."""
    return load_settings({}, variables_of(name, "cellstream-1"), None)
