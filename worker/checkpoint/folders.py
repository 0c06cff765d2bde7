"""Where checkpoint files lie: a directory of this machine, an object store, or what else fsspec reaches.

All publish a file in one step under its final name or not at all, and give it back as a file that nobody
changes while it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from worker.checkpoint.azure import AzureObjects
from worker.checkpoint.gcs import GcsObjects
from worker.checkpoint.local import LocalDirectory
from worker.checkpoint.objects import Objects
from worker.checkpoint.other_stores import FsspecFolders
from worker.checkpoint.remote import RemoteFolders
from worker.checkpoint.s3 import S3Objects
from worker.errors import UsageError
from worker.settings.files import masked

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
