"""The jars of a real Apache Kafka, fetched once by Maven at the versions that `pom.xml` pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree

POM = Path(__file__).with_name("pom.xml")
CACHE = POM.parents[2] / ".cache"
OLDEST_JAVA = 17


def kafka_version() -> str:
    """The version to run: `KAFKA_VERSION`, else the one that `pom.xml` pins."""
    pinned = ElementTree.parse(POM).findtext(".//{*}kafka.version")
    assert pinned, f"{POM} names no kafka.version"
    return os.environ.get("KAFKA_VERSION", pinned)


def what_is_missing() -> str | None:
    """What to install before `fetch_jars` and a broker can run here, or None when nothing is."""
    if java_version() < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} or newer (Debian, Ubuntu: apt-get install default-jre-headless)"
    if not jar_directory().exists() and shutil.which("mvn") is None:
        return "Maven (Debian, Ubuntu: apt-get install maven)"
    return None


def java_version() -> int:
    """The major version of the `java` on the path; 0 where there is none that starts."""
    java = shutil.which("java")
    if java is None:
        return 0
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=180)
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(found.group(1)) if found and answer.returncode == 0 else 0


def jar_directory() -> Path:
    """Where the jars of `kafka_version()` are kept, inside the repository and ignored by git."""
    return CACHE / f"kafka-{kafka_version()}"


def fetch_jars() -> Path:
    """Return the directory of Kafka's jars, after fetching them if they are not there.

    The directory appears under its name only when it is complete, so an interrupted download is never taken for a
    whole one and two test sessions may fetch at once.

    Raises:
        RuntimeError: Maven failed; the message ends with what it said.
    """
    target = jar_directory()
    if target.exists():
        return target
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as scratch:
        partial = Path(scratch) / "jars"
        command = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", "--file", str(POM)]
        command += [
            f"-Dkafka.version={kafka_version()}",
            f"-DoutputDirectory={partial}",
            "dependency:copy-dependencies",
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if answer.returncode != 0 or not any(partial.glob("kafka_*.jar")):
            raise RuntimeError(
                f"Maven could not fetch Kafka {kafka_version()}:\n{(answer.stdout + answer.stderr)[-2000:]}"
            )
        try:
            partial.rename(target)
        except OSError:  # another session was faster, and its directory is as complete as ours
            if not target.exists():
                raise
    return target
