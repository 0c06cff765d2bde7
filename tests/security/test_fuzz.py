"""A short run over all targets; `make fuzz` is the long one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.security.fuzz import files, values
from tests.security.fuzz.__main__ import TARGETS
from tests.security.fuzz.making import Target, draw

EXAMPLES = 150


@pytest.fixture(scope="module")
def known(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    copied = tmp_path_factory.mktemp("fuzz") / "artifact"  # its manifest is overwritten
    shutil.copytree(artifact, copied)
    return {**values.targets(), **files.targets(copied)}


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(known: dict[str, Target], name: str) -> None:
    number = random.randrange(2**32)
    print(f"seed {number}")  # shown with a failure; `python -m tests.security.fuzz --seed` begins with it
    draw(known[name], EXAMPLES, number, known[name].check)


def test_the_long_run_has_every_target(known: dict[str, Target]) -> None:
    assert sorted(known) == sorted(TARGETS)
