"""An object store in memory whose requests fail as they are told to, before or after they took effect."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from worker.checkpoint.objects import Objects, Outdated
from worker.errors import StoreUnavailable

Fault = str | Callable[[], None]
REFUSED, LOST, TORN = "refused", "answer lost", "torn"


class Bucket:
    """What is stored: content and tag by key, and when it was written."""

    def __init__(self) -> None:
        self.now = 0.0
        self.found: dict[str, tuple[bytes, str, float]] = {}
        self.listed: dict[str, int] | None = None  # a listing of the past, where there is one
        self.keeps: tuple[str, ...] = ("create", "replace")  # conditions; the others are ignored
        self._tags = count(1)

    def put(self, key: str, content: bytes) -> None:
        self.found[key] = (content, f'"{next(self._tags)}"', self.now)


class FaultyObjects(Objects):
    """One client of a bucket.

    Attributes:
        faults: of the next requests: REFUSED, LOST or TORN, something that happens just before the request, or None.
        requests: what was asked for, in order.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.faults: list[Fault | None] = []
        self.requests: list[str] = []

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        fault = self.begin("read", key)
        found = self.bucket.found.get(key)
        self.end(fault)
        return None if found is None else (found[0][: max_bytes + 1], found[1])

    def swap(self, key: str, content: bytes, tag: str | None) -> None:
        fault = self.begin("swap", key)
        found = self.bucket.found.get(key)
        kept = ("create" if tag is None else "replace") in self.bucket.keeps
        if kept and (None if found is None else found[1]) != tag:
            self.end(fault)
            raise Outdated(key)
        self.bucket.put(key, content)
        self.end(fault)

    def upload(self, key: str, path: str) -> None:
        fault = self.begin("upload", key)
        content = Path(path).read_bytes()
        self.bucket.put(key, content[: len(content) // 2] if fault == TORN else content)
        self.end(fault)

    def download(self, key: str, file: BinaryIO, max_bytes: int) -> None:
        fault = self.begin("download", key)
        if key not in self.bucket.found:
            raise FileNotFoundError(key)
        content = self.bucket.found[key][0][: max_bytes + 1]
        if fault == TORN:
            file.write(content[: len(content) // 2])
        self.end(fault if fault != TORN else LOST)
        file.write(content)

    def size(self, key: str) -> int:
        fault = self.begin("size", key)
        if key not in self.bucket.found:
            raise FileNotFoundError(key)
        self.end(fault)
        return len(self.bucket.found[key][0])

    def remove(self, key: str) -> None:
        fault = self.begin("remove", key)
        self.bucket.found.pop(key, None)
        self.end(fault)

    def list(self, key: str) -> list[dict[str, Any]]:
        fault = self.begin("list", key)
        sizes = {name: len(content) for name, (content, _, _) in self.bucket.found.items()}
        if self.bucket.listed is not None:
            sizes = self.bucket.listed
        self.end(fault)
        written = {name: at for name, (_, _, at) in self.bucket.found.items()}
        return [
            {"name": name, "size": size, "type": "file", "mtime": written.get(name, 0.0)}
            for name, size in sizes.items()
            if name.rpartition("/")[0] == key
        ]

    def begin(self, request: str, key: str) -> Fault | None:
        self.requests.append(f"{request} {key.rpartition('/')[2]}")
        fault = self.faults.pop(0) if self.faults else None
        if callable(fault):
            fault()
        if fault == REFUSED:
            raise StoreUnavailable(f"{request}: SlowDown")
        return fault

    def end(self, fault: Fault | None) -> None:
        if fault == LOST:
            raise StoreUnavailable("no answer")
