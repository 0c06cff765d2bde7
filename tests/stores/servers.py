"""Servers for tests: small ones that pip brings or that are here, or real ones that Go and npm fetch.

`TESTS_STORES=real` takes the real ones, as `make stores` does: MinIO (Go builds it in about five minutes),
fake-gcs-server and Azurite. The others are quick to have, and check no credentials.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.brokers.process import Process
from tests.deploy.tools import answer_of, cached
from tests.stores.clouds import KEY, SECRET

MINIO = "v0.0.0-20260212201848-7aac2a2c5b7c"
FAKE_GCS = "v1.56.1"
AZURITE = "3.37.0"
UP_WITHIN_S = 300  # Azurite takes long on a busy machine

SMALL = {"s3": "moto", "gcs": "small gcs", "azure": "small azure"}
REAL = os.environ.get("TESTS_STORES") == "real"
KINDS = {"s3": "minio", "gcs": "fake-gcs-server", "azure": "azurite"} if REAL else SMALL


@dataclass(frozen=True)
class Server:
    """A server that runs: of which cloud, by whom, and where."""

    cloud: str
    kind: str
    endpoint: str


@contextmanager
def running(cloud: str, directory: Path) -> Iterator[Server]:
    """A server of its own, empty.

    Args:
        cloud: of which provider it speaks the protocol.
        directory: empty; for its data and its log.
    """
    kind, address = KINDS[cloud], f"127.0.0.1:{_free_port()}"
    command, environment = _COMMANDS[kind](address, directory / "data")
    process = Process(command, directory / "server.log", environment)
    try:
        _wait(f"http://{address}/", process)
        yield Server(cloud, kind, f"http://{address}")
    finally:
        process.kill()


def _minio(address: str, data: Path) -> tuple[list[str | Path], dict[str, str]]:
    binary = cached(f"minio-{MINIO}", _go(f"github.com/minio/minio@{MINIO}")) / "minio"
    command = [binary, "server", data, "--address", address, "--console-address", f"127.0.0.1:{_free_port()}"]
    return command, {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_UPDATE": "off"}


def _moto(address: str, data: Path) -> tuple[list[str | Path], dict[str, str]]:
    host, _, port = address.partition(":")
    return [sys.executable, "-m", "moto.server", "-H", host, "-p", port], {}


def _fake_gcs(address: str, data: Path) -> tuple[list[str | Path], dict[str, str]]:
    package = f"github.com/fsouza/fake-gcs-server@{FAKE_GCS}"
    binary = cached(f"fake-gcs-server-{FAKE_GCS}", _go(package)) / "fake-gcs-server"
    host, _, port = address.partition(":")
    return [binary, "-scheme", "http", "-host", host, "-port", port, "-backend", "memory", "-log-level", "warn"], {}


def _azurite(address: str, data: Path) -> tuple[list[str | Path], dict[str, str]]:
    binary = cached(f"azurite-{AZURITE}", _fetch_azurite) / "node_modules" / ".bin" / "azurite-blob"
    host, _, port = address.partition(":")
    place = ["--blobHost", host, "--blobPort", port, "--location", data]
    # It refuses clients that are newer than itself otherwise.
    return [binary, *place, "--skipApiVersionCheck", "--disableTelemetry"], {"AZURITE_ACCOUNTS": f"{KEY}:{SECRET}"}


def _small(cloud: str) -> Callable[[str, Path], tuple[list[str | Path], dict[str, str]]]:
    def command(address: str, data: Path) -> tuple[list[str | Path], dict[str, str]]:
        host, _, port = address.partition(":")
        return [sys.executable, "-m", "tests.stores.small", cloud, host, port], {}

    return command


_COMMANDS: dict[str, Callable[[str, Path], tuple[list[str | Path], dict[str, str]]]] = {
    "minio": _minio,
    "moto": _moto,
    "fake-gcs-server": _fake_gcs,
    "azurite": _azurite,
    "small gcs": _small("gcs"),
    "small azure": _small("azure"),
}


def _go(package: str) -> Callable[[Path], None]:
    def build(target: Path) -> None:
        answer_of(["go", "install", package], within_s=3000, GOBIN=str(target))

    return build


def _fetch_azurite(target: Path) -> None:
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", target]
    answer_of(["npm", "install", *options, f"azurite@{AZURITE}"], within_s=600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: Process) -> None:
    """Until it answers at all: each of them has another page that says that it is well."""
    deadline = time.monotonic() + UP_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError as fault:
            if process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError(f"{url}: {fault}\n{process.tail()}") from fault
            time.sleep(0.05)
