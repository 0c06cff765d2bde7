"""One cluster for the session; nothing of this runs unless `TESTS_KUBERNETES` is set."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.deploy.custom_resources import definitions
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.control_plane import running
from tests.kubernetes.programs import programs

# Go builds for minutes what these need: `make test-kubernetes` is where they run.
collect_ignore_glob = [] if os.environ.get("TESTS_KUBERNETES") else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With the custom resources of KEDA, the Prometheus operator and Strimzi, and without these operators."""
    with running(programs(), tmp_path_factory.mktemp("cluster")) as cluster:
        files = [f"--filename={file}" for file in definitions()]
        cluster("create", *files)
        cluster("wait", "--for=condition=Established", "--timeout=300s", *files)
        yield cluster


@pytest.fixture
def empty(cluster: Cluster) -> Cluster:
    """The cluster with nothing applied."""
    cluster.empty()
    return cluster
