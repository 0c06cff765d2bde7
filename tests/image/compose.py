"""`deploy/compose.yaml` under `docker compose`, on images that can be had without a registry of images.

The worker's image is the one that the other tests of this directory run. Compose itself builds the one that trains and
publishes. Kafka and Prometheus are made here of what Maven and Debian have; Grafana cannot be had so, and stays away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.brokers.jars import fetch_jars
from tests.brokers.ports import free_ports
from tests.deploy.tools import answer_of, cached, prometheus_tool
from tests.image.engine import BUILD_S, KILLED, STOP_S, Engine

HERE = Path(__file__).parent
FILE = HERE.parents[1] / "deploy" / "compose.yaml"
COMPOSE = "2.40.3"
BASE = "cellstream-test-base:compose"


@dataclass(frozen=True)
class Stack:
    """One project of Compose.

    Attributes:
        prometheus: where it is published on this machine.
    """

    engine: Engine
    flags: tuple[str | Path, ...]
    prometheus: str

    def __call__(self, *arguments: str, within_s: float = 120) -> str:
        """What `docker compose ARGUMENTS` writes.

        Raises:
            AssertionError: it failed; with all that it wrote.
        """
        return self.engine("compose", *self.flags, *arguments, within_s=within_s)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine says of each of these services, or of all; also of those that have ended."""
        return [self.engine.facts(name) for name in self("ps", "--all", "--quiet", *services).split()]


@contextmanager
def composed(engine: Engine, base: str, worker: str, directory: Path) -> Iterator[Stack]:
    """The stack of the compose file, up; in the end stopped, in order, and taken down with its volumes and networks.

    Args:
        engine: to run on.
        base: image to build on.
        worker: image of the Dockerfile.
        directory: empty; for the file that says which images are taken.
    """
    _require_compose(engine)
    engine("tag", base, BASE)
    (port,) = free_ports(1)
    override = directory / "override.yaml"
    override.write_text(_override(kafka=_kafka(engine), prometheus=_prometheus(engine), worker=worker, port=port))
    project = f"cellstream-test-{uuid4().hex[:12]}"
    flags = ("--file", FILE, "--file", override, "--project-name", project, "--progress", "plain")
    stack = Stack(engine, flags, f"http://127.0.0.1:{port}")
    try:
        stack("up", "--build", "--detach", within_s=BUILD_S)
        yield stack
        stack("stop", "--timeout", str(STOP_S), within_s=STOP_S + 60)
        ended = {one["Name"]: one["State"]["ExitCode"] for one in stack.containers()}
        assert KILLED not in ended.values(), ended
    finally:
        stack("down", "--volumes", within_s=STOP_S)
    label = f"label=com.docker.compose.project={project}"
    for things in (["ps", "--all"], ["network", "ls"], ["volume", "ls"]):
        assert engine(*things, "--quiet", "--filter", label) == ""


def _override(*, kafka: str, prometheus: str, worker: str, port: int) -> str:
    """A file of Compose's that changes where images come from, the port, and that Grafana is not started."""
    demo = {"image": "cellstream-test-demo", "build": {"network": "host", "args": {"BASE": BASE}}}
    built = {"image": worker, "pull_policy": "never", "build": "NOT BUILT"}
    services = {
        "kafka": {"image": kafka, "pull_policy": "never"},
        "prometheus": {"image": prometheus, "pull_policy": "never", "ports": [f"127.0.0.1:{port}:9090"]},
        "grafana": {"profiles": ["published"]},
        "topics": {**built},  # a copy each, for an alias would not be reset
        "worker": {**built},
        "model": {**demo},
        "publisher": {**demo},
    }
    text = yaml.safe_dump({"services": services})  # which knows nothing of Compose's own tags
    return text.replace("build: NOT BUILT", "build: !reset null").replace("ports:", "ports: !override")


def _require_compose(engine: Engine) -> None:
    """Have `docker compose` work: where Docker has no such plugin, Go builds it, some minutes once."""
    if engine.code_of("compose", "version") != 0:
        engine.environment["DOCKER_CONFIG"] = str(cached(f"docker-compose-{COMPOSE}", _build_compose))


def _build_compose(target: Path) -> None:
    # Not by `go install`, which refuses a module that excludes versions of others.
    package, plugin = "github.com/docker/compose/v2", target / "cli-plugins" / "docker-compose"
    version = f"-X {package}/internal.Version=v{COMPOSE}"
    answer_of(["go", "mod", "init", "compose"], target)
    answer_of(["go", "get", f"{package}/cmd@v{COMPOSE}"], target, within_s=600)
    answer_of(["go", "build", "-ldflags", f"-s -w {version}", "-o", plugin, f"{package}/cmd"], target, within_s=3000)


def _pinned(service: str) -> str:
    """The version of its image in the compose file."""
    image: str = yaml.safe_load(FILE.read_text())["services"][service]["image"]
    found = re.search(r":v?([\d.]+)$", image)
    assert found, image
    return found[1]


def _kafka(engine: Engine) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_VERSION", _pinned("kafka"))
        jars = fetch_jars()
    return _named(engine, "kafka", jars)


def _prometheus(engine: Engine) -> str:
    return _named(engine, "prometheus", prometheus_tool("prometheus").parent)


def _named(engine: Engine, service: str, context: Path) -> str:
    tag = f"cellstream-test-{service}"
    engine.build(context, tag, HERE / f"{service}.Dockerfile", BASE=BASE)
    return tag


def lines_of(text: str) -> list[dict[str, Any]]:
    """Each line that is JSON."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
