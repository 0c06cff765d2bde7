"""The programs of a Kubernetes control plane, which Go builds once into `.cache`.

Kubernetes' module cannot be installed by its name: it takes the modules that it is made of from folders of its own. A
module that is written here requires it, and names their published versions instead. etcd comes at the version that
Kubernetes is tested with.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tests.deploy.tools import answer_of, cached

KUBERNETES = "1.34.1"
MAINS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
BUILT_WITHIN_S = 7200


def programs() -> Path:
    """The directory that has them, by their names.

    Raises:
        AssertionError: Go could not build them; it says why.
        FileNotFoundError: there is no Go.
    """
    return cached(f"kubernetes-{KUBERNETES}", _build)


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        module = Path(scratch)
        download = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"]
        theirs = json.loads(answer_of(download, module, within_s=BUILT_WITHIN_S))["GoMod"]
        (module / "go.mod").write_text(_requirements(Path(theirs).read_text()))
        imports = "".join(f'\t_ "{package}"\n' for package in MAINS.values())
        (module / "programs.go").write_text(f"//go:build never\n\npackage programs\n\nimport (\n{imports})\n")
        answer_of(["go", "mod", "tidy"], module, within_s=BUILT_WITHIN_S)
        major, minor, _ = KUBERNETES.split(".")
        known = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
        version = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in known.items())
        for name, package in MAINS.items():
            build = ["go", "build", "-ldflags", f"-s -w {version}", "-o", target / name, package]
            answer_of(build, module, within_s=BUILT_WITHIN_S)


def _requirements(theirs: str) -> str:
    """A go.mod that requires Kubernetes as it requires its own parts.

    Args:
        theirs: the go.mod of Kubernetes.
    """
    (go,) = re.findall(r"^go \S+$", theirs, re.MULTILINE)
    parts = re.findall(r"(k8s\.io/\S+) => \./staging/", theirs)
    published = f"v0.{KUBERNETES.partition('.')[2]}"
    lines = [
        "module programs",
        go,
        f"require k8s.io/kubernetes v{KUBERNETES}",
        *(f"replace {part} => {part} {published}" for part in parts),
    ]
    return "\n".join(lines) + "\n"
