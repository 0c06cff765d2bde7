"""A short run of the fuzzer; `make fuzz` is the long one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.security.fuzz import Target, run, targets

EXAMPLES = 150


@pytest.fixture(scope="module")
def known(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    copied = tmp_path_factory.mktemp("fuzz") / "artifact"  # its manifest is overwritten
    shutil.copytree(artifact, copied)
    return targets(copied)


@pytest.mark.parametrize("name", ["json", "msgpack", "float32", "manifest", "model", "checkpoint"])
def test_any_bytes_are_read_or_refused(known: dict[str, Target], name: str) -> None:
    number = random.randrange(2**32)
    print(f"seed {number}")  # shown with a failure; `python -m tests.security.fuzz --seed` takes it
    run(known[name], EXAMPLES, number)
