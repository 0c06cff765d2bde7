"""Where checkpoint files lie: a directory of this machine, an object store, or what else fsspec reaches.

All publish a file in one step under its final name or not at all, and give it back as a file that nobody
changes while it is read. `LocalDirectory` is the only class of the worker that renames and syncs files; object stores
that can put an object on a condition are in `remote`.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import fsspec

from worker.checkpoint.azure import AzureObjects
from worker.checkpoint.gcs import GcsObjects
from worker.checkpoint.objects import Objects
from worker.checkpoint.remote import RemoteFolders
from worker.checkpoint.s3 import S3Objects
from worker.errors import StoreUnavailable, UsageError
from worker.setting_files import masked

# Begins the names of files that are still being written: no checkpoint is called so.
TEMPORARY = ".tmp-"

# Scheme of a URL -> the extra that brings the adapter, and what speaks to the store.
STORES: dict[str, tuple[str, Callable[[str], Objects]]] = {
    "s3": ("s3", S3Objects),
    "s3a": ("s3", S3Objects),
    "gs": ("gcs", GcsObjects),
    "gcs": ("gcs", GcsObjects),
    "abfs": ("azure", AzureObjects),
    "abfss": ("azure", AzureObjects),
    "az": ("azure", AzureObjects),
}

COPY_BYTES = 8 * 1024 * 1024


class Folders(Protocol):
    """Folders of immutable files; folder names are relative, with "/" between their parts."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder; none when it does not exist."""

    def files(self, folder: str) -> dict[str, int]:
        """Size in bytes by name of the files in a folder; none when it does not exist."""

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        """Let `build` fill an empty file and name it, then show it to others. Returns name and size in bytes."""

    def open(self, folder: str, name: str, max_bytes: int) -> BinaryIO:
        """Open a file for reading and seeking; FileNotFoundError when it is gone.

        No more of it than `max_bytes` and a piece is fetched from elsewhere, whatever size was listed.
        """

    def remove(self, folder: str, name: str) -> None:
        """Remove a file; nothing happens when it is gone."""

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """Remove what killed writers left behind. Returns the names."""


def open_folders(url: str) -> Folders:
    """The store of a URL; a path, or `file://`, is a directory of this machine."""
    scheme, separator, path = url.partition("://")
    if not separator:
        return LocalDirectory(Path(url))
    if scheme in ("file", "local"):
        return LocalDirectory(Path(path))
    if scheme not in STORES:
        return FsspecFolders(url)
    extra, objects = STORES[scheme]
    try:
        return RemoteFolders(objects(url))
    except ImportError as fault:
        raise UsageError(f"checkpoints: {masked(url)}: {fault}; pip install 'cellstream[{extra}]'") from fault
    except ValueError as fault:
        raise UsageError(f"checkpoints: {masked(url)}: {fault}") from fault


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
            with _unless_gone():
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
            with _unless_gone():
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
        with self._translated(f"remove {folder}/{name}"), _unless_gone():
            self.fs.rm_file(self._path(folder, name))

    def sweep(self, folder: str, older_than_s: float) -> list[str]:
        """Nothing: an upload that was never completed shows no file; stores expire their own parts."""
        return []

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        with self._translated(f"list {folder}"), _unless_gone():
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


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Do nothing more when a file or folder has vanished between two calls."""
    try:
        yield
    except FileNotFoundError:
        pass
