"""Checkpoints in an object store: immutable objects, and one small pointer for each partition that names them.

Publishing: 1. look at the pointer, so that a store that is down costs no work; 2. build the file on the local disk;
3. upload it; 4. look whether all of it arrived; 5. put the pointer with its name, if the pointer is still the one of 1.
A crash before 5 leaves an object that no reader looks for. Nothing is renamed, and no reader lists anything.

Who owns the newest checkpoint: Kafka says who owns a partition, and a checkpoint is committed state, so no former owner
can write a wrong one. But it can come late, after it was frozen. Its put is conditional: when another worker has put a
newer one since it last looked, its own is given up, and it removes nothing of what it has not seen.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any, BinaryIO
from uuid import uuid4

import structlog

from worker.checkpoint.conditions import require_conditions
from worker.checkpoint.objects import Objects, Outdated, modified_s
from worker.checkpoint.pointer import CHECKPOINT_NAME, MAX_BYTES, NAME, Pointer, offset_of, problem
from worker.errors import StoreUnavailable, TransientFault

log = structlog.get_logger(__name__)

# Others may put a pointer between our look and our put; each time that we lose, somebody has won.
PUTS = 8
# An object that no pointer names may be one that is still to be named.
ORPHAN_AGE_S = 86_400.0
SWEEP_EVERY_S = 3600.0

_Seen = tuple[Pointer, str | None]


class RemoteFolders:
    """`Folders` in an object store.

    Args:
        objects: the store.
        now: wall-clock seconds, to be compared with the store's.
    """

    def __init__(self, objects: Objects, now: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._now = now
        self._writer = uuid4().hex
        self._proven = False
        self._seen: dict[str, Pointer] = {}  # folder -> its pointer when it was last looked at
        self._swept_at: dict[str, float] = {}

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, by a listing; only commands of people need it."""
        return sorted(_last(entry) for entry in self._objects.list(folder) if entry["type"] == "directory")

    def files(self, folder: str) -> dict[str, int]:
        """What the pointer names."""
        pointer, _ = self._look(folder)
        self._seen[folder] = pointer
        return dict(pointer.files)

    def prove(self, folder: str) -> None:
        """See `conditions`; the store is asked until it has answered."""
        if not self._proven:
            require_conditions(self._objects, f"{folder}/probe-{self._writer}")
            self._proven = True

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        """Build, upload, then point to it; see above."""
        seen = self._look(folder)  # 1
        known = self._seen.setdefault(folder, seen[0])
        with tempfile.NamedTemporaryFile(prefix="cellstream-", buffering=0) as file:
            name = build(file)  # type: ignore[arg-type]  # 2
            size = file.seek(0, os.SEEK_END)
            self._give_way(folder, name, known, seen[0])
            if seen[0].files.get(name) != size:  # what is there stays as it is: an upload may be torn
                self._objects.upload(f"{folder}/{name}", file.name)  # 3
                self._expect_whole(f"{folder}/{name}", size)  # 4
        self._point(folder, name, size, seen)  # 5
        return name, size

    def open(self, folder: str, name: str, max_bytes: int) -> BinaryIO:
        """Download to an unnamed local file: what is verified is what is read, and it is fetched once."""
        local: Any = tempfile.TemporaryFile(prefix="cellstream-", buffering=0)  # noqa: SIM115 - the caller closes it
        try:
            self._objects.download(f"{folder}/{name}", local, max_bytes)
        except BaseException:
            local.close()
            raise
        local.seek(0)
        return local

    def remove(self, folder: str, name: str) -> None:
        """Take the name out of the pointer, then delete the object: what a pointer names is there."""
        seen = self._look(folder)
        for _ in range(PUTS):
            files = dict(seen[0].files)
            if files.pop(name, None) is None:
                break
            outcome = self._put(folder, Pointer.by(self._writer, files), seen)
            if outcome is None:
                break
            seen = outcome
        else:
            raise StoreUnavailable(f"checkpoint store: {folder}: others change its pointer all the time")
        self._delete(f"{folder}/{name}")

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """Delete checkpoints that no pointer names and that are older than a day; looked for once an hour."""
        if time.monotonic() - self._swept_at.get(folder, float("-inf")) < SWEEP_EVERY_S:
            return []
        files = (entry for entry in self._objects.list(folder) if entry["type"] == "file")
        listed = [entry for entry in files if CHECKPOINT_NAME.fullmatch(_last(entry))]  # the rest is not this format's
        named = self._look(folder)[0].files  # asked after the listing: what it names was there before
        removed = []
        for entry in listed:
            modified = modified_s(entry)
            old = modified is not None and self._now() - modified > max(ORPHAN_AGE_S, older_than_s)
            if old and _last(entry) not in named:
                self._delete(f"{folder}/{_last(entry)}")
                removed.append(_last(entry))
        self._swept_at[folder] = time.monotonic()
        return removed

    def _look(self, folder: str) -> _Seen:
        """The pointer and its tag. Where it is missing or damaged, a listing has to do: names tell everything."""
        found = self._objects.read(f"{folder}/{NAME}", MAX_BYTES)
        pointer = None if found is None else Pointer.decode(found[0])
        if pointer is None and found is not None:
            log.warning("pointer_passed_over", folder=folder, reason=problem(found[0]), instead="a listing")
        if pointer is None:
            listed = (entry for entry in self._objects.list(folder) if entry["type"] == "file")
            pointer = Pointer.of_listing({_last(entry): int(entry["size"] or 0) for entry in listed})
        return pointer, None if found is None else found[1]

    def _point(self, folder: str, name: str, size: int, seen: _Seen) -> None:
        for _ in range(PUTS):
            pointer = Pointer.by(self._writer, {**seen[0].files, name: size})
            outcome = self._put(folder, pointer, seen)
            if outcome is None:
                self._seen[folder] = pointer
                return
            self._give_way(folder, name, seen[0], outcome[0])
            seen = outcome
        raise StoreUnavailable(f"checkpoint store: {folder}: others change its pointer all the time")

    def _put(self, folder: str, pointer: Pointer, seen: _Seen) -> _Seen | None:
        """Put a pointer in place of the one that was seen; returns the one that is there instead, None if it is ours.

        A put whose answer was lost may have been done: only a look tells.
        """
        fault: Exception
        try:
            self._objects.swap(f"{folder}/{NAME}", pointer.encode(), seen[1])
        except (Outdated, StoreUnavailable) as caught:
            fault = caught
        else:
            return None
        now = self._look(folder)
        if now[0].put == pointer.put:
            return None
        if isinstance(fault, StoreUnavailable):
            raise fault
        return now

    def _give_way(self, folder: str, name: str, known: Pointer, now: Pointer) -> None:
        """Give up a checkpoint that another worker's newer one has overtaken; the next one may be published again."""
        others = now.put != known.put and now.writer != self._writer
        if not others or now.newest_offset <= offset_of(name):
            return
        self._seen[folder] = now
        if name not in now.files:
            self._delete(f"{folder}/{name}")
        raise TransientFault(
            f"checkpoint store: {folder}: the one at {offset_of(name)} is given up, another worker has published "
            f"{now.newest_offset} meanwhile"
        )

    def _expect_whole(self, key: str, size: int) -> None:
        try:
            arrived = self._objects.size(key)
        except FileNotFoundError:
            raise StoreUnavailable(f"checkpoint store: {key} is not there after its upload") from None
        if arrived != size:
            raise StoreUnavailable(f"checkpoint store: {arrived} of {size} bytes of {key} arrived")

    def _delete(self, key: str) -> None:
        try:
            self._objects.remove(key)
        except FileNotFoundError:
            pass  # it is what was wanted


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
