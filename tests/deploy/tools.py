"""The programs that read what is in `deploy/`, fetched once at pinned versions into `.cache`.

Prometheus and its promtool come as Debian's package, through a package index of its own: nothing is installed, no
rights are needed, and the machine's own index may be old or empty. On other systems what is on the path has to do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.brokers.jars import CACHE

PROMETHEUS = "2.42.0"  # Debian 12
COMPOSE = "2.16.2"
KUSTOMIZE = "5.8.1"
OLDEST_KUSTOMIZE = 5  # of kubectl 1.27


def prometheus_tool(name: str) -> Path:
    """The path of `prometheus` or `promtool`.

    Raises:
        pytest.skip.Exception: it cannot be had.
    """
    try:
        return cached(f"prometheus-{PROMETHEUS}", _fetch_prometheus) / "usr" / "bin" / name
    except (AssertionError, FileNotFoundError) as fault:
        found = shutil.which(name)
        return (
            Path(found) if found else cannot(f"install {name} {PROMETHEUS} or newer; it could not be fetched: {fault}")
        )


def kustomize() -> list[str | Path]:
    """The command that builds a kustomization: kubectl's own, where there is one that is new enough, else Go builds it.

    Building takes about a minute of processor time; kubectl costs nothing and has given the same output.
    """
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        said = _said([command[0], "version", *(["--client"] if command[0] == "kubectl" else [])])
        found = re.search(r"(?:Kustomize Version: |^)v(\d+)\.", said, re.MULTILINE)
        if found and int(found[1]) >= OLDEST_KUSTOMIZE:
            return [*command]
    try:
        return [cached(f"kustomize-{KUSTOMIZE}", _build_kustomize) / "kustomize", "build"]
    except (AssertionError, FileNotFoundError) as fault:
        cannot(f"install kubectl 1.27, kustomize {OLDEST_KUSTOMIZE} or Go 1.24, or newer; {fault}")


def compose_parser() -> Path:
    """The reference parser of Compose files, which `docker compose` is built on; Go builds it in some seconds."""
    try:
        return cached(f"compose-go-{COMPOSE}", _build_compose_parser) / "cmd"
    except (AssertionError, FileNotFoundError) as fault:
        cannot(f"install Go 1.24 or newer; {fault}")


def cannot(words: str) -> NoReturn:
    """Skip the test and say what to install: these programs do not come with Python's packages."""
    pytest.skip(words)  # promtool, kustomize or Go is missing and could not be fetched: `words` say what to install


def cached(name: str, fetch: Callable[[Path], None]) -> Path:
    """A directory of `.cache`, filled by `fetch` if it is not there.

    It appears under its name only when it is complete, so that an interrupted download is never taken for a whole one
    and two test sessions may fetch at once.

    Args:
        name: with the version.
        fetch: fills an empty directory.
    """
    target = CACHE / name
    if not target.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as scratch:
            partial = Path(scratch) / "whole"
            partial.mkdir()
            fetch(partial)
            try:
                partial.rename(target)
            except OSError:  # another session was faster, and its directory is as complete as ours
                if not target.exists():
                    raise
    return target


def answer_of(
    command: Sequence[str | Path],
    directory: Path | None = None,
    stdin: str = "",
    within_s: float = 300,
    **environment: str,
) -> str:
    """What a program that succeeds writes to its standard output.

    Raises:
        AssertionError: it failed; with all that it wrote.
    """
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        timeout=within_s,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _said(command: list[str]) -> str:
    """What a program that may not be there writes."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout


def _build_kustomize(target: Path) -> None:
    answer_of(["go", "install", f"sigs.k8s.io/kustomize/kustomize/v5@v{KUSTOMIZE}"], GOBIN=str(target))


def _build_compose_parser(target: Path) -> None:
    answer_of(["go", "install", f"github.com/compose-spec/compose-go/v2/cmd@v{COMPOSE}"], GOBIN=str(target))


def _fetch_prometheus(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        own = [f"-oDir::State={scratch}/state", f"-oDir::Cache={scratch}/cache", "-oAPT::Sandbox::User=root"]
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (Path(scratch) / folder).mkdir(parents=True)
        answer_of(["apt-get", "-qq", *own, "-oAcquire::Languages=none", "-oAcquire::Retries=3", "update"])
        # The distribution may mend the package, which is the rest of its version, and signs it.
        answer_of(["apt-get", "-qq", *own, "download", f"prometheus={PROMETHEUS}*"], Path(scratch))
        (package,) = Path(scratch).glob("prometheus_*.deb")
        answer_of(["dpkg-deb", "--extract", package, target])
