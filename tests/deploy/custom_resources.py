"""What KEDA, the Prometheus operator and Strimzi take as their custom resources, fetched once at pinned versions.

The first two have their definitions in their Go modules. Strimzi publishes classes, and a generator that writes the
definitions from them; it asks for Java 21.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import answer_of, cached, cannot
from tests.registry.apicurio import java

MODULES = {
    "github.com/kedacore/keda/v2@v2.21.0": ("config/crd/bases/keda.sh_", ("scaledobjects", "triggerauthentications")),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_",
        ("servicemonitors", "prometheusrules"),
    ),
}
STRIMZI = Path(__file__).with_name("strimzi.xml")
STRIMZI_VERSION = "1.2.0"  # as in strimzi.xml
CLASSES = ("topic.KafkaTopic", "user.KafkaUser")

Schema = dict[str, Any]


@functools.cache
def schemas() -> dict[tuple[str, str], Schema]:
    """JSON schemas by `apiVersion` and `kind`, which refuse a field that they do not name, as `--validate=strict` does.

    Raises:
        pytest.skip.Exception: the definitions cannot be had.
    """
    try:
        files = definitions()
    except (AssertionError, FileNotFoundError) as fault:
        cannot(f"install Go 1.24 and Maven, or newer; {fault}")
    found: dict[tuple[str, str], Schema] = {}
    for file in files:
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[key] = _strict(version["schema"]["openAPIV3Schema"], root=True)
    return found


def definitions() -> list[Path]:
    """The files of the definitions, as one would give them to kubectl.

    Raises:
        AssertionError: they could not be fetched; it says why.
        FileNotFoundError: there is no Go, or no Maven.
    """
    versions = "-".join(name.rpartition("@")[2] for name in MODULES)
    modules = cached(f"custom-resources-{versions}", _fetch_modules)
    strimzi = cached(f"strimzi-{STRIMZI_VERSION}", _generate)
    return [*modules.glob("*.yaml"), *strimzi.glob("*.yaml")]


def _strict(schema: Any, root: bool = False) -> Any:
    """The JSON schema of a structural schema of Kubernetes."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items() if name not in ("properties", "nullable")}
    if "properties" in schema:
        strict["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if root:  # of every resource, and checked by the API server itself
            strict["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
        if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict.setdefault("additionalProperties", False)
    if schema.get("nullable"):
        return {"anyOf": [strict, {"type": "null"}]}
    return strict


def _fetch_modules(target: Path) -> None:
    for module, (beginning, names) in MODULES.items():
        directory = Path(json.loads(answer_of(["go", "mod", "download", "-json", module], target))["Dir"])
        for name in names:
            shutil.copy(directory / f"{beginning}{name}.yaml", target)


def _generate(target: Path) -> None:
    with tempfile.TemporaryDirectory() as jars:
        copy = ["mvn", "-q", "-B", "-f", STRIMZI, f"-DoutputDirectory={jars}", "dependency:copy-dependencies"]
        answer_of(copy)
        generator = [java(), "-cp", f"{jars}/*", "io.strimzi.crdgenerator.CrdGenerator"]
        files = [f"io.strimzi.api.kafka.model.{name}={target / name}.yaml" for name in CLASSES]
        answer_of([*generator, "--target-kube", "1.27+", "--crd-api-version", "v1", "--yaml", *files])
