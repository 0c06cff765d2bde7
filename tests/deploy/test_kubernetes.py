"""Laws of the manifests: Kubernetes knows every field, the worker every setting, and names mean the same everywhere."""

from __future__ import annotations

import os
import re
import urllib.request
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes.prometheus_rule import FILE, rendered
from tests.deploy.broken import BROKEN_CUSTOM, broken
from tests.deploy.custom_resources import schemas
from tests.deploy.manifests import BUILDS, ROOT, build, container, only, settings_of
from tests.deploy.tools import answer_of, kustomize
from worker.loop import HAND_OVER_S, SAVE_AHEAD_S
from worker.metrics import Metrics
from worker.pages.health import Health, pages, serve
from worker.settings import Settings

# Kubernetes versions that the manifests are written for; the schemas come with the validator.
VERSIONS = ["1.30", "1.37"]
CUSTOM = {
    "ScaledObject": "keda.sh/v1alpha1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "KafkaTopic": "kafka.strimzi.io/v1",
    "KafkaUser": "kafka.strimzi.io/v1",
}


def status(path: str) -> int:
    """What a worker that is well answers to a request for a page."""
    health = Health()
    health.ready = True
    server = serve(pages(Metrics(), health), "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
            return int(answer.status)
    finally:
        server.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", BUILDS)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    for resource in build(name):
        kind = resource["kind"]
        if kind not in CUSTOM:
            kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("kind", CUSTOM)
def test_their_operators_know_every_field_of_custom_resources(kind: str) -> None:
    found = [one for one in build("overlays/all") if one["kind"] == kind]
    assert {one["apiVersion"] for one in found} == {CUSTOM[kind]}
    checker = jsonschema.Draft202012Validator(schemas()[CUSTOM[kind], kind])
    for resource in found:
        checker.validate(resource)


@pytest.mark.parametrize(("kind", "path", "value"), BROKEN_CUSTOM)
def test_their_operators_refuse_broken_custom_resources(kind: str, path: str, value: object) -> None:
    checker = jsonschema.Draft202012Validator(schemas()[CUSTOM[kind], kind])
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(broken(kind, path, value))


def test_the_overlay_of_ones_own_in_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT.parent / "docs" / "deploy.md").read_text(), re.DOTALL)
    from_here = os.path.relpath(ROOT.parent, tmp_path.resolve())  # kustomize takes no absolute paths
    (tmp_path / "kustomization.yaml").write_text(example.replace("deploy/kubernetes", f"{from_here}/deploy/kubernetes"))
    built = list(yaml.safe_load_all(answer_of([*kustomize(), tmp_path])))
    (stateful,) = (one for one in built if one["kind"] == "StatefulSet")
    (worker,) = stateful["spec"]["template"]["spec"]["containers"]
    assert worker["image"] == "registry.example/pumps:7"
    (told,) = (one for one in built if one["metadata"]["name"] == worker["envFrom"][0]["configMapRef"]["name"])
    assert told["data"]["CELLSTREAM_BOOTSTRAP_SERVERS"] == "kafka-1:9092"
    assert told["data"].keys() == set(only("base", "ConfigMap")["data"])
    assert "PrometheusRule" in {one["kind"] for one in built}


@pytest.mark.parametrize("name", BUILDS)
def test_everything_is_in_one_namespace(name: str) -> None:
    for resource in build(name):
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == "cellstream", resource["metadata"]


@pytest.mark.parametrize("name", BUILDS)
def test_a_worker_takes_its_settings_and_its_stable_name(name: str) -> None:
    settings = settings_of(name)
    assert settings.instance_id == settings.kafka["group.instance.id"] == "cellstream-1"
    assert settings.transactional_id == "cellstream-cellstream-1"
    topics = settings.input_topic, settings.output_topic, settings.dead_letter_topic
    assert topics == tuple(Settings.model_fields[f"{one}_topic"].default for one in ("input", "output", "dead_letter"))


def test_no_variable_of_a_service_can_look_like_a_setting() -> None:
    assert only("base", "StatefulSet")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_probes_and_scrapes_ask_for_pages_that_a_worker_has_where_it_has_them() -> None:
    worker = container("base")
    (port,) = (one["containerPort"] for one in worker["ports"] if one["name"] == "metrics")
    assert port == settings_of("base").metrics_port
    assert settings_of("base").metrics_host == "0.0.0.0"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert status(worker[probe]["httpGet"]["path"]) == 200
        assert worker[probe]["httpGet"]["port"] == "metrics"
    assert only("base", "Service")["spec"]["ports"][0]["targetPort"] == "metrics"
    assert only("base", "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == "metrics"
    (endpoint,) = only("overlays/prometheus", "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == only("base", "Service")["spec"]["ports"][0]["name"]


def test_a_worker_is_killed_only_long_after_its_hand_over_is_done() -> None:
    grace_s = only("base", "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    hook = container("base")["lifecycle"]["preStop"]
    assert hook.keys() == {"sleep"}, "a hook that signals the worker would make SIGTERM its second signal, which kills"
    assert grace_s >= hook["sleep"]["seconds"] + 2 * (SAVE_AHEAD_S + HAND_OVER_S)


def test_a_worker_that_restarts_is_back_within_its_session() -> None:
    worker, spec = container("base"), only("base", "StatefulSet")["spec"]["template"]["spec"]
    session_s = int(settings_of("base").kafka["session.timeout.ms"]) / 1000
    left_s = session_s - (spec["terminationGracePeriodSeconds"] - worker["lifecycle"]["preStop"]["sleep"]["seconds"])
    assert left_s >= 15, "time to import, load and compile, even after the longest hand-over"


def test_a_worker_has_no_rights_and_writes_only_where_it_must() -> None:
    pod = only("base", "StatefulSet")["spec"]["template"]["spec"]
    worker = container("base")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod['securityContext']['runAsUser']}\n" in (ROOT.parent / "Dockerfile").read_text()
    assert pod["automountServiceAccountToken"] is False
    assert worker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in worker["volumeMounts"]} == {"/checkpoints", "/tmp"}
    assert worker["resources"]["requests"].keys() == {"cpu", "memory"}


def test_all_workers_share_one_checkpoint_store() -> None:
    stateful = only("base", "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in stateful, "that would be a store for each worker"
    claims = [one["persistentVolumeClaim"]["claimName"] for one in stateful["template"]["spec"]["volumes"][:1]]
    claim = only("base", "PersistentVolumeClaim")
    assert claims == [claim["metadata"]["name"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_every_selector_finds_the_workers() -> None:
    stateful = only("base", "StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert stateful["serviceName"] == only("base", "Service")["metadata"]["name"]
    assert stateful["selector"]["matchLabels"] == labels
    assert only("base", "Service")["spec"]["selector"] == labels
    assert only("base", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert only("base", "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    monitor = only("overlays/prometheus", "ServiceMonitor")["spec"]
    service = only("overlays/prometheus", "Service")["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= service.items()
    assert service[monitor["jobLabel"]] == "cellstream", "the job that the alerts ask for"


def test_the_prometheus_rule_is_what_is_in_deploy_prometheus() -> None:
    assert FILE.read_text() == rendered(), "python -m deploy.kubernetes.prometheus_rule"
    files = (yaml.safe_load((ROOT / "prometheus" / name).read_text()) for name in ("recording.yml", "alerts.yml"))
    groups = [group for file in files for group in file["groups"]]
    assert only("overlays/prometheus", "PrometheusRule")["spec"] == {"groups": groups}


def test_the_dashboard_comes_along() -> None:
    found = only("overlays/prometheus", "ConfigMap", "cellstream-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["data"] == {"cellstream.json": (ROOT / "grafana" / "cellstream.json").read_text()}


@pytest.mark.parametrize("name", ["overlays/keda", "overlays/all"])
def test_keda_alone_scales_the_workers_by_their_own_lag(name: str) -> None:
    settings, scaled = settings_of(name), only(name, "ScaledObject")["spec"]
    stateful = only(name, "StatefulSet")
    assert scaled["scaleTargetRef"] == {"kind": "StatefulSet", "name": stateful["metadata"]["name"]}
    assert "replicas" not in stateful["spec"], "an apply would undo what KEDA has set"
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "kafka"
    asked = trigger["metadata"]
    assert (asked["consumerGroup"], asked["topic"]) == (settings.group_id, settings.input_topic)
    assert asked["bootstrapServers"].partition(".")[0] == settings.bootstrap_servers.partition(":")[0]
    assert asked["offsetResetPolicy"] == settings.start_from
    assert all(isinstance(value, str) for value in asked.values()), "KEDA takes text only"
    assert (
        scaled["maxReplicaCount"] <= only("overlays/strimzi", "KafkaTopic", settings.input_topic)["spec"]["partitions"]
    )


def test_keda_logs_in_as_the_workers_do() -> None:
    name = "overlays/all"
    (trigger,) = only(name, "ScaledObject")["spec"]["triggers"]
    login = only(name, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]
    public = only(name, "ConfigMap", "cellstream-kafka")["data"]
    assert {one["parameter"]: public[one["key"]] for one in login["configMapTargetRef"]} == {
        "sasl": "scram_sha512",
        "tls": "enable",
        "username": settings_of(name).kafka["sasl.username"],
    }
    pod = only(name, "StatefulSet")["spec"]["template"]["spec"]
    secrets = {one["valueFrom"]["secretKeyRef"]["name"] for one in container(name)["env"] if "PASSWORD" in one["name"]}
    secrets |= {one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
    assert {one["name"] for one in login["secretTargetRef"]} == secrets


def test_the_topics_are_those_of_the_settings_and_the_input_can_be_a_changelog() -> None:
    settings = settings_of("overlays/strimzi")
    topics = {one["metadata"]["name"]: one["spec"] for one in build("overlays/strimzi") if one["kind"] == "KafkaTopic"}
    assert topics.keys() == {settings.input_topic, settings.output_topic, settings.dead_letter_topic}
    changelog = topics[settings.input_topic]["config"]
    assert changelog["cleanup.policy"] == "delete"
    assert changelog["retention.bytes"] == -1
    assert changelog["retention.ms"] >= 24 * 3600 * 1000
    for topic in topics.values():
        assert topic["replicas"] == 3
        assert topic["config"]["min.insync.replicas"] == 2


def test_the_user_may_do_what_a_worker_does_and_nothing_else() -> None:
    settings = settings_of("overlays/strimzi")
    user = only("overlays/strimzi", "KafkaUser")
    assert user["metadata"]["name"] == settings.kafka["sasl.username"]
    assert user["spec"]["authentication"]["type"].upper() == settings.kafka["sasl.mechanism"]
    rights = {
        (one["resource"]["type"], one["resource"]["name"], one["resource"]["patternType"]): set(one["operations"])
        for one in user["spec"]["authorization"]["acls"]
    }
    assert rights == {
        ("topic", settings.input_topic, "literal"): {"Read", "Describe", "DescribeConfigs"},
        ("topic", settings.output_topic, "literal"): {"Write", "Describe"},
        ("topic", settings.dead_letter_topic, "literal"): {"Write", "Describe"},
        ("group", settings.group_id, "literal"): {"Read", "Describe"},
        ("transactionalId", f"{settings.group_id}-", "prefix"): {"Write", "Describe"},
    }
    assert settings.transactional_id.startswith(f"{settings.group_id}-")
