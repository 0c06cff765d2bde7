"""An object store as checkpoints need it: whole objects in and out, and one small object that is changed by comparison.

What is the same for all goes through fsspec; how an object is replaced only if it is still the one that was read is
each store's own, and so are its time-outs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import fsspec

from worker.errors import StoreUnavailable

# A server that does not answer within so many seconds is given up; each request is made so often.
CONNECT_S = 3
READ_S = 15
ATTEMPTS = 3

# Pieces that are under way at once, and so four times as much memory.
PIECE_BYTES = 8 * 1024 * 1024
PIECES = 4


class Outdated(Exception):
    """The object is not, or no longer, the one that was to be replaced."""


class Objects(ABC):
    """Objects below a root, by keys with "/" between their parts. Every request is bounded in time.

    Args:
        fs: fsspec's file system, without a cache of listings.
        root: bucket, or bucket and prefix.

    Raises:
        StoreUnavailable: from every method, for any fault of the store.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")

    @abstractmethod
    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """A small object, cut behind one byte more than `max_bytes`, and its tag; None when there is none."""

    @abstractmethod
    def swap(self, key: str, content: bytes, tag: str | None) -> None:
        """Write a small object if it still has this tag; None: if there is none.

        Raises:
            Outdated: it is another one; or it is ours, and the answer to an earlier attempt was lost.
        """

    def upload(self, key: str, path: str) -> None:
        """Write an object from a file."""
        with self.translated(f"upload {key}"):
            self.fs.put_file(path, self.path(key), **self.upload_options)

    upload_options: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def download(self, key: str, file: BinaryIO, max_bytes: int) -> None:
        """Copy an object, cut behind one byte more than `max_bytes`; FileNotFoundError when it is gone."""
        path = self.path(key)
        with self.translated(f"read {key}"):
            size = min(int(self.fs.info(path)["size"]), max_bytes + 1)
            for start in range(0, size, PIECE_BYTES * PIECES):
                begins = range(start, min(size, start + PIECE_BYTES * PIECES), PIECE_BYTES)
                ends = [min(size, begin + PIECE_BYTES) for begin in begins]
                for piece in self.fs.cat_ranges([path] * len(ends), list(begins), ends, on_error="raise"):
                    file.write(piece)

    def size(self, key: str) -> int:
        """Bytes of an object; FileNotFoundError when there is none."""
        with self.translated(f"look at {key}"):
            return int(self.fs.info(self.path(key))["size"])

    def remove(self, key: str) -> None:
        """Delete an object; FileNotFoundError, or nothing, when it is gone."""
        with self.translated(f"remove {key}"):
            self.fs.rm_file(self.path(key))

    def list(self, key: str) -> list[dict[str, Any]]:
        """The entries of one folder, as fsspec has them; none when there is none."""
        with self.translated(f"list {key}"):
            try:
                self.fs.invalidate_cache()
                return list(self.fs.ls(self.path(key), detail=True))
            except FileNotFoundError:
                return []

    def path(self, key: str) -> str:
        """As fsspec takes it."""
        return f"{self.root}/{key}"

    @contextmanager
    def translated(self, task: str) -> Iterator[None]:
        """Each store's client has a tree of errors of its own: all but "there is none" mean the same here."""
        try:
            yield
        except (FileNotFoundError, Outdated):
            raise
        except Exception as fault:
            why = str(fault) or repr(fault.__cause__)
            raise StoreUnavailable(f"checkpoint store: cannot {task}: {type(fault).__name__}: {why}") from fault


def modified_s(entry: dict[str, Any]) -> float | None:
    """When an object of a listing was written, by the store's clock; None when it does not say."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        found = entry.get(name)
        if isinstance(found, datetime):
            return found.timestamp()
        if isinstance(found, int | float):
            return float(found)
        if isinstance(found, str):
            return datetime.fromisoformat(found).timestamp()
    return None


def timeouts_of(protocol: str) -> dict[str, float]:
    """`connection_timeout` and `read_timeout` in seconds: what fsspec's own configuration says, or ours."""
    given = options_of(protocol)
    return {
        "connection_timeout": given.get("connection_timeout", CONNECT_S),
        "read_timeout": given.get("read_timeout", READ_S),
    }


def options_of(protocol: str) -> dict[str, Any]:
    """What fsspec's own configuration (its files and `FSSPEC_*` variables) says of a protocol."""
    return dict(fsspec.config.conf.get(protocol, {}))
