"""Checkpoint files in a directory: the only place of the worker that renames and syncs files."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

# Begins the names of files that are still being written: no checkpoint is called so.
TEMPORARY = ".tmp-"


class LocalDirectory:
    """A directory of this machine or a mounted one.

    Publishing: 1. write to a temporary file beside the final one; 2. fsync it; 3. rename; 4. fsync the
    directory. A crash before 3 leaves a temporary file that no reader looks at, after it a whole checkpoint.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self, folder: str) -> list[str]:
        """Names of the real directories in a folder."""
        return sorted(entry.name for entry in self._scan(folder) if entry.is_dir(follow_symlinks=False))

    def files(self, folder: str) -> dict[str, int]:
        """Size by name of the regular files in a folder."""
        sizes = {}
        for entry in self._scan(folder):
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        """Write, sync and rename; the temporary file goes when any step fails."""
        directory = self._directory(folder)
        temporary = directory / f"{TEMPORARY}{os.getpid()}-{uuid4().hex}"
        try:
            with open(temporary, "x+b", buffering=0) as file:
                name = build(file)
                size = file.seek(0, os.SEEK_END)
                self._sync_file(file)
            self._rename(temporary, directory / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_directory(directory)
        return name, size

    def open(self, folder: str, name: str, max_bytes: int) -> BinaryIO:
        """Open without following a link; a name that is renamed over or removed meanwhile changes nothing."""
        descriptor = os.open(self.root / folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(f"{name} is not a regular file")
        return os.fdopen(descriptor, "rb", buffering=0)

    def remove(self, folder: str, name: str) -> None:
        """Unlink; a removal lost in a power failure is repeated by the next collection."""
        (self.root / folder / name).unlink(missing_ok=True)

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """Remove temporary files that nobody has written to for so long."""
        removed = []
        for entry in self._scan(folder):
            with suppress(FileNotFoundError):
                age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.startswith(TEMPORARY) and age_s > older_than_s:
                    self.remove(folder, entry.name)
                    removed.append(entry.name)
        return removed

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _directory(self, folder: str) -> Path:
        """Create a folder; each new name is synced in its parent, or a power failure takes all that is below."""
        directory = self.root / folder
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        for path in reversed(missing):
            self._sync_directory(path.parent)
        return directory

    def _sync_file(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def _rename(self, temporary: Path, final: Path) -> None:
        os.replace(temporary, final)  # the name has the digest: what it may replace is the same, or damaged

    def _sync_directory(self, directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as fault:
            if fault.errno != errno.EINVAL:  # some network file systems cannot sync a directory, and say so
                raise
        finally:
            os.close(descriptor)
