"""One engine, one base and one image for the session; nothing of this runs unless `TESTS_IMAGE` is set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.base import base_image
from tests.image.engine import Engine, docker_engine

ROOT = Path(__file__).parents[2]
# Building takes minutes, and neither an engine nor debootstrap comes with pip: `make test-image` is where these run.
collect_ignore = [] if os.environ.get("TESTS_IMAGE") else ["test_compose_up.py", "test_image.py"]
_measured: list[str] = []


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with docker_engine(tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The ID of the base, which is its digest here."""
    return base_image(engine)


@pytest.fixture(scope="session")
def image(engine: Engine, base: str) -> str:
    """The ID of the image of the Dockerfile."""
    built = engine.build(ROOT, "cellstream-test", BASE=base)
    sizes = [engine.facts(name)["Size"] / 1e6 for name in (built, base)]
    _measured.append(f"image: {sizes[0]:.0f} MB, of which the base is {sizes[1]:.0f} MB")
    return built


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how large it is."""
    for words in _measured:
        terminalreporter.write_line(words)
