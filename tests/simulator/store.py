"""The simulated checkpoint store: folders in memory behind `worker.checkpoint.folders.Folders`.

The worker's own `CheckpointStore` works above it: names, digests, collection. The file in it is a pickle and not HDF5,
whose own laws are in tests/laws: thousands of schedules would spend most of their time in HDF5.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO

from tests.simulator.host import Host
from worker.checkpoint import AnySnapshot, Snapshot
from worker.checkpoint.file import COLUMNS, Header

Files = dict[str, bytes]


@dataclass
class Disk:
    """What outlives the workers; `lost` holds what was collected or damaged, to come back as a stale store.

    Attributes:
        on_publish: called with each published snapshot.
        on_remove: called with each that was removed, and the names that are left beside it as far as its remover knows.
        folders: files by folder.
        former: every file that ever was in a folder.
        snapshots: all that was ever published, by folder and name.
        fails_until: until then every call fails.
    """

    on_publish: Callable[[Snapshot], None] = lambda snapshot: None
    on_remove: Callable[[Snapshot, list[str]], None] = lambda snapshot, left: None
    folders: dict[str, Files] = field(default_factory=dict)
    former: dict[str, Files] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    fails_until: float = 0.0

    def damage(self, folder: str, kind: str) -> None:
        """Damage the newest file of a folder, or lose all; bring back an old state of the store."""
        files = self.folders.get(folder, {})
        if not files:
            return
        newest = max(files)
        if kind == "truncated":
            files[newest] = files[newest][: len(files[newest]) // 2]
        elif kind == "flipped":
            files[newest] = files[newest][:-1] + bytes([byte ^ 4 for byte in files[newest][-1:]])
        elif kind == "emptied":
            files[newest] = b""
        elif kind == "deleted":
            del files[newest]
        elif kind == "lost":
            files.clear()
        elif kind == "stale":
            oldest = min(self.former[folder])
            files.clear()
            files[oldest] = self.former[folder][oldest]


class SimFolders:
    """The disk as one process sees it.

    Args:
        disk: what lies there.
        host: the process; it may die at each step of a publication.
    """

    def __init__(self, disk: Disk, host: Host) -> None:
        self._disk = disk
        self._host = host
        self._seen: dict[str, set[str]] = {}  # what is there as far as this process knows

    def folders(self, folder: str) -> list[str]:
        """Not asked for by a worker."""
        return []

    def files(self, folder: str) -> dict[str, int]:
        """Sizes by name."""
        self._fail_if_told()
        sizes = {name: len(content) for name, content in self._disk.folders.get(folder, {}).items()}
        self._seen[folder] = set(sizes)
        return sizes

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        """All of a file under its name, or nothing."""
        self._host.point("before publish")
        self._fail_if_told()
        file = io.BytesIO()
        name = build(file)
        content = file.getvalue()
        self._host.point("half of publish")
        self._fail_if_told()
        fault = self._host.faults.pop("publish", None)
        if fault is not None:
            self._host.note(f"publish: {fault.kind}")
            raise OSError(28, "as told: no space left on device")
        self._host.note(f"checkpoint {folder}/{name[:24]}")
        self._disk.folders.setdefault(folder, {})[name] = content
        self._disk.former.setdefault(folder, {})[name] = content
        self._disk.snapshots[folder, name] = snapshot = pickle.loads(content)
        self._disk.on_publish(snapshot)
        self._host.point("after publish")
        return name, len(content)

    def open(self, folder: str, name: str, max_bytes: int) -> BinaryIO:
        """A file's content as it is now."""
        self._fail_if_told()
        try:
            return io.BytesIO(self._disk.folders[folder][name])
        except KeyError:
            raise FileNotFoundError(name) from None

    def remove(self, folder: str, name: str) -> None:
        """Remove; nothing when it is gone."""
        self._host.point("before remove")
        self._fail_if_told()
        if self._disk.folders.get(folder, {}).pop(name, None) is not None:
            self._host.note(f"removed {folder}/{name[:24]}")
            seen = self._seen.get(folder, set())
            seen.discard(name)
            self._disk.on_remove(self._disk.snapshots[folder, name], sorted(seen.union(self._disk.folders[folder])))

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """There are no leftovers."""
        return []

    def _fail_if_told(self) -> None:
        if self._host.cluster.now < self._disk.fails_until:
            raise OSError(5 + 100, "as told: the store is away")


def write_pickle(file: BinaryIO, snapshot: AnySnapshot, layout: Sequence[Any]) -> None:
    """In place of `worker.checkpoint.file.write_file`."""
    pickle.dump(gathered(snapshot), file, protocol=5)
    snapshot.streams.release()


def gathered(snapshot: AnySnapshot) -> Snapshot:
    """All of a snapshot in memory."""
    header = {field.name: getattr(snapshot, field.name) for field in fields(Header)}
    streams = snapshot.streams
    columns: dict[str, Any] = {name: streams.take(name, 0, len(streams)) for name in ("states", *COLUMNS)}
    extras = {name: streams.take(name, 0, len(streams)) for name in streams.optional}
    return Snapshot(**header, **columns, extras=extras, stream_ids=streams.take_ids(0, len(streams)))


def read_pickle(file: BinaryIO, layout: Sequence[Any] | None, name: str, into: object = None) -> Snapshot:
    """In place of `worker.checkpoint.reader.read_file`; the digest was verified. It never reads in place."""
    snapshot: Snapshot = pickle.load(file)
    return snapshot
