"""Checkpoint files in whatever else fsspec reaches: servers of files, stores that have no adapter of their own here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import fsspec

from worker.errors import StoreUnavailable, UsageError
from worker.settings.files import masked

COPY_BYTES = 8 * 1024 * 1024


class FsspecFolders:
    """Any fsspec file system. Object stores show an object when its upload is complete.

    One that shows half an upload does no harm: the digest in the name refuses it, and an older one is used.
    Faults of the store, of whatever class its client raises, become `StoreUnavailable`.

    Raises:
        UsageError: fsspec does not know the URL's protocol, or lacks the package for it.
    """

    def __init__(self, url: str) -> None:
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as fault:  # no such protocol, or its package is not installed
            raise UsageError(f"checkpoints: {masked(url)}: {fault}") from fault

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        return sorted(_last(entry) for entry in self._entries(folder) if entry["type"] == "directory")

    def files(self, folder: str) -> dict[str, int]:
        """Size by name of the files in a folder."""
        return {_last(entry): int(entry["size"] or 0) for entry in self._entries(folder) if entry["type"] == "file"}

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        """Build in a local temporary file, then upload it under its name."""
        with tempfile.NamedTemporaryFile(prefix="cellstream-", buffering=0) as file:
            name = build(file)  # type: ignore[arg-type]
            size = file.seek(0, os.SEEK_END)
            with self._translated(f"upload {folder}/{name}"):
                self.fs.makedirs(self._path(folder), exist_ok=True)
                self.fs.put_file(file.name, self._path(folder, name))
        return name, size

    def open(self, folder: str, name: str, max_bytes: int) -> BinaryIO:
        """Download to an unnamed local file: what is verified is what is read, and it is fetched once."""
        local: Any = tempfile.TemporaryFile(prefix="cellstream-", buffering=0)  # noqa: SIM115 - the caller closes it
        try:
            with self._translated(f"read {folder}/{name}"), self.fs.open(self._path(folder, name), "rb") as remote:
                while local.tell() <= max_bytes and (piece := remote.read(COPY_BYTES)):
                    local.write(piece)
        except BaseException:
            local.close()
            raise
        local.seek(0)
        return local

    def remove(self, folder: str, name: str) -> None:
        """Delete an object."""
        with self._translated(f"remove {folder}/{name}"), suppress(FileNotFoundError):
            self.fs.rm_file(self._path(folder, name))

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """Nothing: an upload that was never completed shows no file; stores expire their own parts."""
        return []

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        with self._translated(f"list {folder}"), suppress(FileNotFoundError):
            self.fs.invalidate_cache()  # others write here; fsspec may answer from what it saw before
            entries = list(self.fs.ls(self._path(folder), detail=True))
        return entries

    def _path(self, *parts: str) -> str:
        return "/".join((self.root.rstrip("/"), *parts))

    @contextmanager
    def _translated(self, task: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as fault:  # each store's client has a tree of errors of its own
            raise StoreUnavailable(f"checkpoint store: cannot {task}: {type(fault).__name__}: {fault}") from fault


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
