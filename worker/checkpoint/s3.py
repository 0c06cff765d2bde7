"""Amazon S3 and what speaks its protocol, through s3fs. Needs conditional puts (`If-Match`, `If-None-Match`)."""

from __future__ import annotations

from typing import Any

import fsspec
from fsspec.asyn import sync

from worker.checkpoint.objects import ATTEMPTS, CONNECT_S, PIECE_BYTES, PIECES, READ_S, Objects, Outdated, options_of

# 412, and 409 while another conditional put of the key is under way; 404: it was to be replaced and is gone.
_REFUSED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404")
_MISSING = ("NoSuchKey", "404")


class S3Objects(Objects):
    """Objects of one bucket; region, endpoint and credentials are found as every AWS client finds them."""

    upload_options = {"chunksize": PIECE_BYTES, "max_concurrency": PIECES}  # noqa: RUF012 - never changed

    def __init__(self, url: str) -> None:
        given = options_of("s3").get("config_kwargs", {})
        config = {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},  # of throttling and time-outs, too
        }
        fs, root = fsspec.core.url_to_fs(
            url, config_kwargs={**config, **given}, use_listings_cache=False, skip_instance_cache=True
        )
        fs.retries = 1  # s3fs would repeat each of the attempts above five times
        super().__init__(fs, root)

    def read(self, key: str, max_bytes: int) -> tuple[bytes, str] | None:
        """One GET."""
        with self.translated(f"read {key}"):
            try:
                found: tuple[bytes, str] = sync(self.fs.loop, self._get, self._place(key), max_bytes)
            except FileNotFoundError as fault:
                if _code(fault) in _MISSING:
                    return None
                raise OSError(str(fault)) from fault  # the bucket is missing, which is not an empty one
        return found

    def swap(self, key: str, content: bytes, tag: str | None) -> None:
        """One PUT with a condition."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with self.translated(f"write {key}"):
            try:
                self.fs.call_s3("put_object", **self._place(key), Body=content, **condition)
            except OSError as fault:
                if _code(fault) in _REFUSED:
                    raise Outdated(key) from fault
                raise

    async def _get(self, place: dict[str, str], max_bytes: int) -> tuple[bytes, str]:
        reply = await self.fs._call_s3("get_object", **place)
        async with reply["Body"] as body:
            return await body.read(max_bytes + 1), reply["ETag"]

    def _place(self, key: str) -> dict[str, str]:
        bucket, name, _ = self.fs.split_path(self.path(key))
        return {"Bucket": bucket, "Key": name}


def _code(fault: BaseException) -> str:
    """S3's own word for a fault that s3fs has translated."""
    reply: Any = getattr(fault.__cause__, "response", None) or {}
    return str(reply.get("Error", {}).get("Code", ""))
