"""Stores on a directory and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from tests.checkpoints.snapshots import (
    LAYOUT,
)
from worker.checkpoint import CheckpointStore


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "directory":
        yield str(tmp_path / "checkpoints")
    else:
        root = uuid4().hex
        yield f"memory://{root}"
        memory = fsspec.filesystem("memory")
        if memory.exists(f"/{root}"):
            memory.rm(f"/{root}", recursive=True)


@pytest.fixture
def store(url: str) -> CheckpointStore:
    return CheckpointStore(url, "group", LAYOUT)


@pytest.fixture
def local(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "local"), "group", LAYOUT)
