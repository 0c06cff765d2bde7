"""The Docker engine of these tests: the one that answers, else one that the session starts and ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.brokers.jars import CACHE
from tests.brokers.process import Process
from tests.deploy.tools import answer_of
from tests.deployment import until

BUILD_S = 2400.0
KILLED = 137  # the exit code of what did not end by itself
STOP_S = 240  # until `docker stop` kills: a busy machine takes longer than the 30 s of docs/deploy.md


class Engine:
    """An engine, asked through the command that users have.

    Args:
        host: where it listens; None is what the command finds by itself.

    Attributes:
        environment: added to this process' own for the command.
    """

    def __init__(self, host: str | None = None) -> None:
        self.environment = {} if host is None else {"DOCKER_HOST": host}

    def __call__(self, *arguments: str | Path, within_s: float = 120) -> str:
        """What `docker ARGUMENTS` writes.

        Raises:
            AssertionError: it failed; with all that it wrote.
        """
        return answer_of(["docker", *arguments], within_s=within_s, **self.environment).strip()

    def code_of(self, *arguments: str) -> int:
        """The exit code of `docker ARGUMENTS`, which may fail."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(["docker", *arguments], env=environment, check=False, capture_output=True, timeout=STOP_S)
        return done.returncode

    def answers(self) -> bool:
        """Whether there is one."""
        return shutil.which("docker") is not None and self.code_of("version") == 0

    def facts(self, name: str) -> dict[str, Any]:
        """What `docker inspect` says of an image, a container or a volume."""
        (found,) = json.loads(self("inspect", name))
        return dict(found)

    def build(self, directory: Path, tag: str, file: Path | None = None, **arguments: str) -> str:
        """Build a Dockerfile on the host's network and return the image's ID.

        Args:
            directory: what it may copy from.
            tag: of the image.
            file: the Dockerfile, where it is not that of the directory.
            arguments: of the build.
        """
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        where = [] if file is None else ["--file", file]
        self("build", "--network", "host", "--tag", tag, *where, *given, directory, within_s=BUILD_S)
        return str(self.facts(tag)["Id"])

    @contextmanager
    def volume(self) -> Iterator[str]:
        """A volume of its own, removed in the end."""
        name = self("volume", "create", f"cellstream-test-{uuid4().hex[:12]}")
        try:
            yield name
        finally:
            self("volume", "rm", name)

    @contextmanager
    def container(self, image: str, *flags: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
        """A container that runs in the background, as locked up as it can be; removed in the end.

        Args:
            image: to run.
            flags: of `docker run`.
            command: in place of the image's own.
        """
        closed = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
        name = self("run", "--detach", "--network", "host", *closed, *flags, image, *command)
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", name)


class Container:
    """One that was started; `returncode` and `tail` as of a `Process`, for `until`."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name
        self.log = Path(name[:12])

    @property
    def state(self) -> dict[str, Any]:
        """Status, health and exit code, as the engine has them."""
        return dict(self._engine.facts(self.name)["State"])

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        state = self.state
        return None if state["Running"] else int(state["ExitCode"])

    def tail(self, characters: int = 4000) -> str:
        """The end of what it has written so far, to both outputs."""
        command = ["docker", "logs", self.name]
        done = subprocess.run(
            command,
            env={**os.environ, **self._engine.environment},
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        return done.stdout.decode(errors="replace")[-characters:]

    def stop(self) -> int:
        """`docker stop`: the image's stop signal, then the end by force; the exit code."""
        self._engine("stop", "--time", str(STOP_S), self.name, within_s=STOP_S + 60)
        return int(self.state["ExitCode"])


@contextmanager
def docker_engine(directory: Path) -> Iterator[Engine]:
    """The engine of this machine, or one of the session's own.

    The own one keeps its images in `.cache/docker`, so that a second run builds only what has changed. It has neither a
    bridge nor rules of a firewall, and leaves none behind.

    Args:
        directory: for its log.

    Raises:
        AssertionError: there is none, and none can be started; it says what to install.
    """
    found = Engine()
    if found.answers():
        yield found
        return
    missing = [name for name in ("docker", "dockerd") if shutil.which(name) is None]
    assert not missing, f"no Docker engine answers: start one, or install {' and '.join(missing)} (Debian: docker.io)"
    assert os.geteuid() == 0, "no Docker engine answers, and only root can start one"
    with tempfile.TemporaryDirectory(prefix="dockerd-") as scratch:  # the path of a socket must be short
        host = f"unix://{scratch}/docker.sock"
        places = ["--host", host, "--pidfile", f"{scratch}/pid", "--exec-root", f"{scratch}/run"]
        places += ["--data-root", str(CACHE / "docker")]
        log = directory / "dockerd.log"
        daemon = Process(["dockerd", *places, "--bridge=none", "--iptables=false", "--ip6tables=false"], log)
        try:
            own = Engine(host)
            until(own.answers, "dockerd", daemon)
            yield own
        finally:
            daemon.stop()
            subprocess.run(["umount", f"{scratch}/run/netns/default"], check=False)  # of the host's network
