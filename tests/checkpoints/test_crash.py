"""Laws of crashes: whatever step of writing fails, only whole checkpoints are left, and the earlier ones."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import h5py
import pytest

from tests.checkpoints.snapshots import (
    LAYOUT,
    ROOT,
    TOPIC,
    assert_equal,
    make_snapshot,
)
from worker.checkpoint import CheckpointRef, CheckpointStore
from worker.checkpoint.local import TEMPORARY, LocalDirectory
from worker.errors import TransientFault

STEPS = ("build", "built", "_sync_file", "_rename", "renamed", "_sync_directory")


class FailsAt(LocalDirectory):
    """A directory that calls `fail` when publishing reaches a step."""

    fail: ClassVar[Callable[[], None]]

    def __init__(self, root: Path, step: str) -> None:
        super().__init__(root)
        self.step = step

    def reach(self, step: str) -> None:
        if step == self.step:
            self.fail()

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        def building(file: BinaryIO) -> str:
            file.write(b"\x89HDF half of it")
            self.reach("build")
            file.seek(0)
            file.truncate(0)
            name = build(file)
            self.reach("built")
            return name

        return super().publish(folder, building)

    def _sync_file(self, file: BinaryIO) -> None:
        self.reach("_sync_file")
        super()._sync_file(file)

    def _rename(self, temporary: Path, final: Path) -> None:
        self.reach("_rename")
        super()._rename(temporary, final)
        self.reach("renamed")

    def _sync_directory(self, directory: Path) -> None:
        self.reach("_sync_directory")
        super()._sync_directory(directory)


class Dies(FailsAt):
    fail = staticmethod(lambda: os._exit(9))


class NoSpace(FailsAt):
    @staticmethod
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def assert_only_whole_checkpoints(store: CheckpointStore, earlier: CheckpointRef) -> None:
    refs = store.refs(TOPIC, 0)
    assert earlier in refs
    for ref in refs:
        assert_equal(store.read(ref), make_snapshot(ref.next_offset))


@pytest.mark.parametrize("step", STEPS)
def test_process_that_dies_while_writing_leaves_only_whole_checkpoints(local: CheckpointStore, step: str) -> None:
    earlier = local.write(make_snapshot(50))
    code = (
        "import sys; from pathlib import Path; from tests.checkpoints.test_crash import *\n"
        "store = CheckpointStore(sys.argv[1], 'group', LAYOUT, folders=Dies(Path(sys.argv[1]), sys.argv[2]))\n"
        "store.write(make_snapshot(100))"
    )
    died = subprocess.run([sys.executable, "-c", code, local.url, step], check=False, timeout=180, cwd=ROOT)
    assert died.returncode == 9
    assert_only_whole_checkpoints(local, earlier)
    assert [ref.next_offset for ref in local.refs(TOPIC, 0)] == ([100, 50] if step in STEPS[4:] else [50])

    leftovers = [name for name in os.listdir(Path(earlier.path).parent) if name.startswith(TEMPORARY)]
    assert len(leftovers) == (0 if step in STEPS[4:] else 1)
    local.collect(TOPIC, 0, committed=50, keep=2)
    assert len(os.listdir(Path(earlier.path).parent)) == 2, "a fresh leftover may belong to a live writer"
    for name in leftovers:
        os.utime(Path(earlier.path).with_name(name), (1, 1))
    local.collect(TOPIC, 0, committed=50, keep=2)
    assert all(name.endswith(".h5") for name in os.listdir(Path(earlier.path).parent))


@pytest.mark.parametrize("step", STEPS)
def test_write_that_fails_leaves_only_whole_checkpoints_and_no_leftovers(local: CheckpointStore, step: str) -> None:
    earlier = local.write(make_snapshot(50))
    failing = CheckpointStore(local.url, "group", LAYOUT, folders=NoSpace(Path(local.url), step))
    with pytest.raises(TransientFault, match="No space left"):
        failing.write(make_snapshot(100))
    assert_only_whole_checkpoints(local, earlier)
    assert all(name.endswith(".h5") for name in os.listdir(Path(earlier.path).parent))


class FullAfter(LocalDirectory):
    """A directory on a medium that takes only so many writes."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.left = writes

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        return super().publish(folder, lambda file: build(self.Medium(file, self)))  # type: ignore[arg-type]

    class Medium:
        """Takes at most 100 bytes a time, as `write` may."""

        def __init__(self, file: Any, owner: FullAfter) -> None:
            self.file, self.owner = file, owner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, buffer: Any) -> int:
            self.owner.left -= 1
            if self.owner.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(memoryview(buffer)[:100]))

        def readinto(self, buffer: Any) -> int:
            return int(self.file.readinto(memoryview(buffer)[:100]))


def test_full_disk_is_said_and_leaves_nothing_open_in_hdf5(tmp_path: Path) -> None:
    failures = 0
    for writes in range(0, 400, 7):
        store = CheckpointStore(str(tmp_path), "group", LAYOUT, folders=FullAfter(tmp_path, writes))
        try:
            ref = store.write(make_snapshot(writes))
        except TransientFault as fault:
            assert "No space left" in str(fault)  # noqa: PT017 - some of the writes must succeed
            failures += 1
        else:
            assert_equal(CheckpointStore(str(tmp_path), "group", LAYOUT).read(ref), make_snapshot(writes))
    assert 5 < failures < 57
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


def test_every_checkpoint_that_is_listed_can_be_read_while_others_are_written(local: CheckpointStore) -> None:
    done = threading.Event()
    seen: set[int] = set()

    def read_all() -> None:
        reader = CheckpointStore(local.url, "group", LAYOUT)
        while not done.is_set():
            for ref in reader.refs(TOPIC, 0):
                assert_equal(reader.read(ref), make_snapshot(ref.next_offset))
                seen.add(ref.next_offset)

    thread = threading.Thread(target=read_all)
    thread.start()
    for offset in range(100, 130):
        local.write(make_snapshot(offset))
    done.set()
    thread.join()
    assert seen
