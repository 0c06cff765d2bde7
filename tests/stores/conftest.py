"""A server for the session, a bucket and a proxy for each test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import boto3
import fsspec
import pytest

from tests.stores.proxy import Proxy
from tests.stores.servers import KEY, SECRET, Server, s3_server, wanted

RETRIES = {"total_max_attempts": 2, "mode": "standard"}
# A busy machine is no fault of the store.
PATIENT = {"config_kwargs": {"connect_timeout": 30, "read_timeout": 60, "retries": RETRIES}}
IMPATIENT = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 0.5, "retries": RETRIES}}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server(tmp_path_factory.mktemp("s3"), wanted()) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.endpoint.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def environment(proxy: Proxy) -> dict[str, str]:
    """What a worker finds its store by."""
    return {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "FSSPEC_S3": json.dumps(PATIENT),
    }


@pytest.fixture
def url(server: Server, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own, behind the proxy."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", PATIENT)
    bucket = f"test-{uuid4().hex}"
    boto3.client("s3", endpoint_url=server.endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"
