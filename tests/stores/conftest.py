"""Servers for the session, a bucket and a proxy for each test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from tests.stores.clouds import CLOUDS, Cloud
from tests.stores.proxy import Proxy
from tests.stores.servers import KINDS, Server, running

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where groups of tests run at once, all of a server are in one process, so that it is fetched and started once."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if item.path.parent == HERE and "server" in parameters:
            item.add_marker(pytest.mark.xdist_group(parameters["server"]))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Each is started when it is first asked for."""
    with ExitStack() as stack:
        found: dict[str, Server] = {}

        def server_of(cloud: str) -> Server:
            if cloud not in found:
                found[cloud] = stack.enter_context(running(cloud, tmp_path_factory.mktemp(cloud)))
            return found[cloud]

        yield server_of


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    return servers(request.param)


@pytest.fixture
def cloud(server: Server) -> Cloud:
    return CLOUDS[server.cloud]


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.endpoint.removeprefix("http://")) as between:
        yield between


@pytest.fixture
def url(server: Server, cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own, behind the proxy; this process and its children find it there."""
    patient = cloud.timeouts(connect_s=30, read_s=60)  # a busy machine is no fault of the store
    monkeypatch.setitem(fsspec.config.conf, cloud.scheme, patient)
    found = cloud.environment(proxy.endpoint) | {f"FSSPEC_{cloud.scheme.upper()}": json.dumps(patient)}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid4().hex}"
    cloud.create(server.endpoint, bucket)
    return f"{cloud.scheme}://{bucket}/some/prefix"
