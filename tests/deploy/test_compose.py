"""Laws of the compose file: the reference parser accepts it, and what it starts finds each other."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboard import FILE as DASHBOARD
from tests.brokers.kafka_process import SETTINGS
from tests.deploy.tools import answer_of, compose_parser
from tests.test_readme import resolve
from worker.settings.sources import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OURS = ("topics", "model", "worker", "publisher")


@functools.cache
def services() -> dict[str, dict[str, Any]]:
    """The services as Compose understands them; raises for what it would refuse."""
    parsed = answer_of([compose_parser(), "-format", "json", "compose.yaml"], DEPLOY)
    found: dict[str, dict[str, Any]] = json.loads(parsed)["services"]
    return found


def mounts(service: str) -> dict[str, dict[str, Any]]:
    """Volumes by the place where the container sees them."""
    return {volume["target"]: volume for volume in services()[service].get("volumes", [])}


@pytest.mark.parametrize("service", OURS)
def test_the_worker_knows_every_variable_and_every_command(service: str) -> None:
    one = services()[service]
    load_settings({}, one["environment"], None)
    words = " ".join(one.get("command") or [])
    lines = re.findall(r"cellstream [^;|]+", words) if one.get("entrypoint") else [f"cellstream {words or 'run'}"]
    assert lines
    for line in lines:
        command, rest = resolve(line)
        command.make_context("cellstream", rest)


def test_images_of_others_are_pinned_and_those_of_ours_are_built_from_what_is_here() -> None:
    for name, one in services().items():
        if name in OURS:
            build = one["build"]
            assert Path(build["context"]) == ROOT
            assert (ROOT / build["dockerfile"]).exists()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", one["image"]), name


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "deploy/demo.Dockerfile"])
def test_what_an_image_copies_is_there_and_not_ignored(dockerfile: str) -> None:
    own = ROOT / f"{dockerfile}.dockerignore"
    kept = (own if own.exists() else ROOT / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert copies
    for path in " ".join(copies).split():
        assert (ROOT / path).exists(), path
        assert f"!{path}" in kept, path


def test_no_shell_is_the_first_process_of_a_container_for_it_would_not_hear_that_it_is_to_end() -> None:
    shells = [name for name in OURS if "sh" in (services()[name].get("entrypoint") or [])]
    assert shells == ["model", "publisher"]
    assert all(services()[name]["init"] for name in shells)


def test_nothing_is_open_to_the_outside() -> None:
    ports = [port for one in services().values() for port in one.get("ports", [])]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_files_that_are_mounted_exist() -> None:
    for service in services():
        for volume in mounts(service).values():
            assert volume["type"] == "volume" or Path(volume["source"]).exists(), volume


def test_the_workers_share_one_checkpoint_store_and_write_nowhere_else() -> None:
    worker, settings = services()["worker"], load_settings({}, services()["worker"]["environment"], None)
    assert worker["deploy"]["replicas"] > 1
    assert mounts("worker")[settings.checkpoints]["source"] == "checkpoints"
    assert worker["read_only"]
    assert worker["cap_drop"] == ["ALL"]
    assert worker["tmpfs"] == ["/tmp"]
    assert mounts("worker")["/artifact"]["read_only"]
    assert settings.artifact is not None
    assert f"--out {settings.artifact}" in services()["model"]["command"][0]


def test_everything_waits_for_what_it_needs() -> None:
    assert services()["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    for service, needs in {"worker": ("topics", "model"), "publisher": ("topics",)}.items():
        for need in needs:
            assert services()[service]["depends_on"][need]["condition"] == "service_completed_successfully"


def test_the_broker_has_what_a_lone_broker_needs() -> None:
    environment = services()["kafka"]["environment"]
    for name, value in SETTINGS.items():
        if name.endswith(("replication.factor", "min.isr", "topics.enable")):
            assert environment["KAFKA_" + name.upper().replace(".", "_")] == value
    (servers,) = {services()[one]["environment"]["CELLSTREAM_BOOTSTRAP_SERVERS"] for one in OURS}
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{servers}"


def test_prometheus_finds_the_workers_and_grafana_finds_prometheus() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert job["job_name"] == "cellstream"
    assert set(names["names"]) <= services().keys()
    worker = load_settings({}, services()["worker"]["environment"], None)
    assert (names["port"], worker.metrics_host) == (worker.metrics_port, "0.0.0.0")
    assert {*config["rule_files"], "prometheus.yml"} <= {
        path.name for path in Path(mounts("prometheus")["/etc/prometheus"]["source"]).iterdir()
    }

    provisioning = Path(mounts("grafana")["/etc/grafana/provisioning"]["source"])
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "cellstream.yml").read_text())["providers"]
    place = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(place).parent == Path(provider["options"]["path"])
    assert Path(mounts("grafana")[place]["source"]) == DASHBOARD
