"""Overlays of one's own, as docs/deploy.md says how to write them, and what kubectl says of resources."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.deploy.manifests import ROOT
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.pods import settled

WORKERS = 4


def apply(cluster: Cluster, directory: Path, tag: str = "1", **settings: str) -> None:
    """Apply the base with a model, a number of workers and settings of one's own.

    Args:
        cluster: to change.
        directory: for the overlay.
        tag: of the image; a worker of `broken` is never ready.
        settings: names without their prefix, in small letters.
    """
    base = os.path.relpath(ROOT / "kubernetes" / "base", directory.resolve())  # kustomize takes no absolute paths
    literals = [f"CELLSTREAM_{name.upper()}={value}" for name, value in settings.items()]
    overlay = {
        "resources": [base],
        "images": [{"name": "cellstream-model", "newTag": tag}],
        "replicas": [{"name": "cellstream", "count": WORKERS}],
        "configMapGenerator": [{"name": "cellstream-settings", "behavior": "merge", "literals": literals}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    cluster.apply(directory)


def roll_out(cluster: Cluster, directory: Path, tag: str = "1", **settings: str) -> None:
    """Apply it and wait until every worker is what was applied, and ready."""
    apply(cluster, directory, tag, **settings)
    cluster.until(lambda: settled(cluster, WORKERS), f"{WORKERS} workers of {tag}")
