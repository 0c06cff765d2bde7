"""S3 servers for tests: moto, which pip brings, or a real MinIO, which Go builds in about five minutes.

`CELLSTREAM_S3=minio` takes MinIO, as `make stores` does; moto is quick to have, and checks no signatures.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.process import Process
from tests.deploy.tools import answer_of, cached

MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"
KEY, SECRET = "cellstream", "not-a-secret-at-all"
UP_WITHIN_S = 60


@dataclass(frozen=True)
class Server:
    """A server that runs: where, and by whom."""

    kind: str
    endpoint: str


@contextmanager
def s3_server(directory: Path, kind: str) -> Iterator[Server]:
    """A server of its own, empty.

    Args:
        directory: empty; for its data and its log.
        kind: "moto" or "minio".
    """
    port = _free_port()
    address = f"127.0.0.1:{port}"
    if kind == "minio":
        binary = cached(f"minio-{MINIO}", _build_minio) / "minio"
        command = [
            binary,
            "server",
            directory / "data",
            "--address",
            address,
            "--console-address",
            f"127.0.0.1:{_free_port()}",
        ]
        health = f"http://{address}/minio/health/live"
    else:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        health = f"http://{address}/moto-api/"
    environment = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_UPDATE": "off"}
    process = Process(command, directory / "server.log", environment)
    try:
        _wait(health, process)
        yield Server(kind, f"http://{address}")
    finally:
        process.kill()


def wanted() -> str:
    """The kind that this run asks for."""
    return os.environ.get("CELLSTREAM_S3", "moto")


def _build_minio(target: Path) -> None:
    answer_of(["go", "install", f"github.com/minio/minio@{MINIO}"], within_s=3000, GOBIN=str(target))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: Process) -> None:
    deadline = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as fault:
            if process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"{url}: {fault}\n{process.tail()}") from fault
            time.sleep(0.05)
