"""Google Cloud Storage, through gcsfs. The tag of an object is its generation, on which puts are conditional."""

from __future__ import annotations

import logging
from types import MethodType
from typing import Any

from fsspec.asyn import sync

from worker.checkpoint.objects import ATTEMPTS, PIECE_BYTES, PIECES, Objects, Outdated, timeouts_of

_NONE = "0"  # the generation of an object that is not there
_NO_SUCH_RANGE = 416  # of an object without a byte


class GcsObjects(Objects):
    """Objects of one bucket; credentials are found as gcsfs finds them."""

    upload_options = {"chunksize": PIECE_BYTES * PIECES}  # noqa: RUF012 - never changed

    def __init__(self, url: str) -> None:
        from aiohttp import ClientTimeout
        from gcsfs.core import GCSFileSystem  # fsspec's choice would ask by gRPC, too, of which kind the bucket is
        from gcsfs.retry import retry_request

        given = timeouts_of("gcs")
        timeout = ClientTimeout(sock_connect=given["connection_timeout"], sock_read=given["read_timeout"])
        fs = GCSFileSystem(requests_timeout=timeout, use_listings_cache=False, skip_instance_cache=True)
        # gcsfs would try six times, with pauses of half a minute in all.
        fs._request = MethodType(retry_request(retries=ATTEMPTS)(GCSFileSystem._request.__wrapped__), fs)
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the trace of each fault that it raises
        super().__init__(fs, fs._strip_protocol(url))

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """One GET."""
        with self.translated(f"read {key}"):
            try:
                wanted = {"Range": f"bytes=0-{max_bytes}"}
                headers, content = self.fs.call("GET", self.fs.url(self.path(key)), headers=wanted)
                return content, str(headers["X-Goog-Generation"])
            except FileNotFoundError:
                return None  # should the bucket be missing, the listing that follows says so
            except Exception as fault:
                if getattr(fault, "code", None) != _NO_SUCH_RANGE:
                    raise
            return b"", str(self._look(key)["generation"])

    def swap(self, key: str, content: bytes, tag: str | None) -> None:
        """One POST with a condition."""
        bucket, name, _ = self.fs.split_path(self.path(key))
        with self.translated(f"write {key}"):
            try:
                self.fs.call(
                    "POST",
                    f"{self.fs._location}/upload/storage/v1/b/{bucket}/o",
                    uploadType="media",
                    name=name,
                    ifGenerationMatch=_NONE if tag is None else tag,
                    headers={"Content-Type": "application/json"},
                    data=content,
                )
            except FileExistsError as fault:  # so gcsfs calls 412
                raise Outdated(key) from fault
            except FileNotFoundError as fault:
                raise OSError(f"there is no bucket {bucket}") from fault

    def size(self, key: str) -> int:
        """One GET, of what is known of the object."""
        with self.translated(f"look at {key}"):
            return int(self._look(key)["size"])

    def list(self, key: str) -> list[dict[str, Any]]:
        """One GET for each thousand. gcsfs' own `ls` takes a missing bucket for an empty folder."""
        path = self.path(key)
        with self.translated(f"list {key}"):
            try:
                files, folders = sync(self.fs.loop, self.fs._do_list_objects, path)
            except FileNotFoundError as fault:
                raise OSError(f"there is no bucket {path.partition('/')[0]}") from fault
        return [*files, *({"name": name, "type": "directory"} for name in folders)]

    def _look(self, key: str) -> dict[str, Any]:
        bucket, name, _ = self.fs.split_path(self.path(key))
        found: dict[str, Any] = self.fs.call("GET", "b/{}/o/{}", bucket, name, json_out=True)
        return found
