"""Azure Blob Storage. adlfs finds the account and its credentials; Azure's own client, which it brings, does the rest.

The tag of a blob is its ETag, on which puts are conditional (`If-Match`, `If-None-Match`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.asyn import sync

from worker.checkpoint.objects import ATTEMPTS, PIECES, Objects, Outdated, timeouts_of

# It is there; it has changed; it was to be replaced and is gone.
_REFUSED = ("BlobAlreadyExists", "ConditionNotMet", "BlobNotFound")

_Found = TypeVar("_Found")


class AzureObjects(Objects):
    """Blobs of one container."""

    def __init__(self, url: str) -> None:
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        # The client would wait for 15, 18 and 24 s between its attempts, and adlfs has no settings for that.
        retry = fs.service_client._config.retry_policy
        retry.total_retries, retry.initial_backoff, retry.increment_base = ATTEMPTS - 1, 1, 2
        retry.random_jitter_range = 1
        logging.getLogger("azure").setLevel(logging.WARNING)  # it logs each request with its headers
        super().__init__(fs, root)
        self._timeouts = timeouts_of("abfs")
        container, _, self._prefix = self.root.partition("/")
        self._container = fs.service_client.get_container_client(container)

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """One GET."""

        async def read() -> tuple[bytes, str]:
            found = await self._begin(key, max_bytes)
            if found is None:
                return b"", (await self._blob(key).get_blob_properties(**self._timeouts)).etag
            return await found.readall(), found.properties.etag

        try:
            return self._do(f"read {key}", read)
        except FileNotFoundError:
            return None

    def swap(self, key: str, content: bytes, tag: str | None) -> None:
        """One PUT with a condition."""
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        condition = {} if tag is None else {"etag": tag, "match_condition": MatchConditions.IfNotModified}

        async def put() -> None:
            try:
                await self._blob(key).upload_blob(content, overwrite=tag is not None, **condition, **self._timeouts)
            except HttpResponseError as fault:
                if _code(fault) in _REFUSED:
                    raise Outdated(key) from fault
                raise

        self._do(f"write {key}", put)

    def upload(self, key: str, path: str) -> None:
        """In pieces of 4 MiB that become a blob together, or in one PUT up to 64 MiB."""

        async def upload() -> None:
            with open(path, "rb") as file:
                await self._blob(key).upload_blob(file, overwrite=True, max_concurrency=PIECES, **self._timeouts)

        self._do(f"upload {key}", upload)

    def download(self, key: str, file: BinaryIO, max_bytes: int) -> None:
        """In pieces of 4 MiB."""

        async def download() -> None:
            found = await self._begin(key, max_bytes)
            if found is not None:
                await found.readinto(file)

        self._do(f"read {key}", download)

    def size(self, key: str) -> int:
        """One HEAD."""

        async def look() -> int:
            return int((await self._blob(key).get_blob_properties(**self._timeouts)).size)

        return self._do(f"look at {key}", look)

    def remove(self, key: str) -> None:
        """One DELETE."""

        async def remove() -> None:
            await self._blob(key).delete_blob(**self._timeouts)

        self._do(f"remove {key}", remove)

    def list(self, key: str) -> list[dict[str, Any]]:
        """One GET for each five thousand."""

        async def walk() -> list[dict[str, Any]]:
            from azure.storage.blob import BlobProperties

            entries: list[dict[str, Any]] = []
            listed = self._container.walk_blobs(name_starts_with=self._name(key) + "/", **self._timeouts)
            async for found in listed:
                entry = {"name": found.name, "type": "directory"}
                if isinstance(found, BlobProperties):
                    entry |= {"type": "file", "size": found.size, "last_modified": found.last_modified}
                entries.append(entry)
            return entries

        return self._do(f"list {key}", walk)

    async def _begin(self, key: str, max_bytes: int) -> Any:
        """A download of one byte more than `max_bytes`; None of a blob without a byte, which has no such range."""
        from azure.core.exceptions import HttpResponseError

        try:
            return await self._blob(key).download_blob(
                offset=0, length=max_bytes + 1, max_concurrency=PIECES, **self._timeouts
            )
        except HttpResponseError as fault:
            if _code(fault) == "InvalidRange":
                return None
            raise

    def _blob(self, key: str) -> Any:
        return self._container.get_blob_client(self._name(key))

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _do(self, task: str, work: Callable[[], Awaitable[_Found]]) -> _Found:
        """Let fsspec's thread do it, as adlfs does."""
        from azure.core.exceptions import ResourceNotFoundError

        with self.translated(task):
            try:
                found: _Found = sync(self.fs.loop, work)
            except ResourceNotFoundError as fault:
                if _code(fault) == "ContainerNotFound":  # which is not an empty one
                    raise OSError(f"there is no container {self._container.container_name}") from fault
                raise FileNotFoundError(task) from fault
        return found


def _code(fault: Any) -> str:
    """Azure's own word for a fault."""
    code = getattr(fault, "error_code", None)
    return str(getattr(code, "value", code))
