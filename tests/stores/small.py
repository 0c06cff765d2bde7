"""Google's and Microsoft's object stores, as small as the tests of checkpoints need them: from memory, for anybody.

    python -m tests.stores.small gcs|azure HOST PORT

They keep the conditions of puts. `make stores` holds the same tests to servers that others have written.
"""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Stored:
    content: bytes
    version: int
    written: datetime


class Small(BaseHTTPRequestHandler):
    """Buckets in memory, one request at a time."""

    protocol_version = "HTTP/1.1"
    buckets: dict[str, dict[str, Stored]] = {}  # noqa: RUF012 - of the process
    parts: dict[str, bytes] = {}  # noqa: RUF012 - of uploads that are not complete
    versions = count(1)
    lock = Lock()

    @abstractmethod
    def answer(self, path: list[str], query: dict[str, str], body: bytes) -> Reply:
        """What a cloud says; each has a class of its own."""

    def _do(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.lock:
            path = [unquote(part) for part in url.path.split("/")[1:]]
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            status, headers, content = self.answer(path, query, body) if path != [""] else (200, {}, b"")
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def put(self, bucket: str, name: str, content: bytes) -> Stored:
        stored = Stored(content, next(self.versions), datetime.now(UTC))
        self.buckets[bucket][name] = stored
        return stored

    def listing(self, bucket: str, prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
        """Names of objects, and beginnings that more of them share."""
        names, folders = [], set()
        for name in sorted(self.buckets[bucket]):
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if not name.startswith(prefix):
                continue
            if cut:
                folders.add(prefix + head + cut)
            else:
                names.append(name)
        return names, sorted(folders)

    def ranged(self, content: bytes, asked: str | None) -> tuple[int, dict[str, str], bytes]:
        """The bytes that were asked for; 416 where there are none of them."""
        if not asked:
            return 200, {}, content
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        piece = content[int(begin) : int(end) + 1 if end else None]
        if not piece:
            return 416, {}, b""
        return 206, {"Content-Range": f"bytes {begin}-{int(begin) + len(piece) - 1}/{len(content)}"}, piece


class SmallGcs(Small):
    """Speaks the JSON API, version 1."""

    def answer(self, path: list[str], query: dict[str, str], body: bytes) -> Reply:  # noqa: PLR0911 - one for each request
        if path == ["storage", "v1", "b"]:
            self.buckets[json.loads(body)["name"]] = {}
            return _json({"kind": "storage#bucket", **json.loads(body)})
        bucket, name = path[path.index("b") + 1], "/".join(path[path.index("o") + 1 :])
        if bucket not in self.buckets:
            return _json({"error": {"code": 404, "message": "The specified bucket does not exist."}}, 404)
        if self.command == "POST":
            return self._upload(bucket, query, body)
        if not name:
            names, folders = self.listing(bucket, query.get("prefix", ""), query.get("delimiter", ""))
            items = [self._resource(bucket, found) for found in names]
            return _json({"kind": "storage#objects", "items": items, "prefixes": folders})
        if name not in self.buckets[bucket]:
            return _json({"error": {"code": 404, "message": f"No such object: {bucket}/{name}"}}, 404)
        if self.command == "DELETE":
            del self.buckets[bucket][name]
            return 204, {}, b""
        if query.get("alt") != "media":
            return _json(self._resource(bucket, name))
        found = self.buckets[bucket][name]
        status, headers, content = self.ranged(found.content, self.headers.get("Range"))
        return status, {**headers, "X-Goog-Generation": str(found.version)}, content

    def _upload(self, bucket: str, query: dict[str, str], body: bytes) -> Reply:
        name = query.get("name", "")
        if query["uploadType"] == "multipart":
            boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
            _, resource, media, _ = body.split(b"--" + boundary)
            name = json.loads(resource.partition(b"\n\n")[2])["name"]
            body = media.partition(b"\n\n")[2].removesuffix(b"\n")
        elif query["uploadType"] == "resumable" and "upload_id" not in query:
            place = f"http://{self.headers['Host']}{urlsplit(self.path).path}?uploadType=resumable"
            upload = str(next(self.versions))
            self.parts[upload] = b""
            return 200, {"Location": f"{place}&name={quote(name, safe='')}&upload_id={upload}"}, b""
        elif query["uploadType"] == "resumable":
            self.parts[query["upload_id"]] += body
            body = self.parts[query["upload_id"]]
            if len(body) < int(self.headers["Content-Range"].rpartition("/")[2]):
                return 308, {"Range": f"bytes=0-{len(body) - 1}"}, b""
        found = self.buckets[bucket].get(name)
        version = str(found.version) if found else "0"
        if query.get("ifGenerationMatch", version) != version:
            return _json({"error": {"code": 412, "message": "conditionNotMet"}}, 412)
        self.put(bucket, name, body)
        return _json(self._resource(bucket, name))

    def _resource(self, bucket: str, name: str) -> dict[str, Any]:
        found = self.buckets[bucket][name]
        written = found.written.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        known = {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(found.content))}
        return {**known, "generation": str(found.version), "updated": written, "timeCreated": written}


class SmallAzure(Small):
    """Speaks the REST API of blobs."""

    def answer(self, path: list[str], query: dict[str, str], body: bytes) -> Reply:  # noqa: PLR0911 - one for each request
        _, container, *rest = path
        name = "/".join(rest)
        if query.get("restype") == "container" and self.command == "PUT":
            self.buckets[container] = {}
            return 201, {}, b""
        if container not in self.buckets:
            return _fault(404, "ContainerNotFound")
        if query.get("comp") == "list":
            return self._list(container, query)
        if self.command == "PUT":
            return self._put(container, name, query, body)
        found = self.buckets[container].get(name)
        if found is None:
            return _fault(404, "BlobNotFound")
        if self.command == "DELETE":
            del self.buckets[container][name]
            return 202, {}, b""
        if self.command == "HEAD":
            return 200, {**_known(found), "Content-Length": str(len(found.content))}, b""
        status, headers, content = self.ranged(found.content, self.headers.get("x-ms-range"))
        return _fault(416, "InvalidRange") if status == 416 else (status, {**headers, **_known(found)}, content)

    def _put(self, container: str, name: str, query: dict[str, str], body: bytes) -> Reply:
        if query.get("comp") == "block":
            self.parts[f"{container}/{name}/{query['blockid']}"] = body
            return 201, {}, b""
        if query.get("comp") == "blocklist":
            blocks = [entry.text for entry in ElementTree.fromstring(body)]
            body = b"".join(self.parts.pop(f"{container}/{name}/{block}") for block in blocks)
        found = self.buckets[container].get(name)
        if self.headers.get("If-None-Match") == "*" and found is not None:
            return _fault(409, "BlobAlreadyExists")
        if "If-Match" in self.headers and (found is None or self.headers["If-Match"] != _known(found)["ETag"]):
            return _fault(412, "ConditionNotMet")
        return 201, _known(self.put(container, name, body)), b""

    def _list(self, container: str, query: dict[str, str]) -> Reply:
        names, folders = self.listing(container, query.get("prefix", ""), query.get("delimiter", ""))
        text = ""
        for name in names:
            found = self.buckets[container][name]
            known = {**_known(found), "Content-Length": str(len(found.content)), "BlobType": "BlockBlob"}
            properties = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in known.items() if key[0] != "x")
            text += f"<Blob><Name>{escape(name)}</Name><Properties>{properties}</Properties></Blob>"
        text += "".join(f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>" for folder in folders)
        text = f"<?xml version='1.0'?><EnumerationResults><Blobs>{text}</Blobs><NextMarker/></EnumerationResults>"
        return 200, {"Content-Type": "application/xml"}, text.encode()


def _json(content: Any, status: int = 200) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _known(found: Stored) -> dict[str, str]:
    written = format_datetime(found.written, usegmt=True)
    return {"ETag": f'"0x{found.version:X}"', "Last-Modified": written, "x-ms-blob-type": "BlockBlob"}


def _fault(status: int, code: str) -> Reply:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return status, {"x-ms-error-code": code, "Content-Type": "application/xml"}, text.encode()


if __name__ == "__main__":
    kind, host, port = sys.argv[1:]
    ThreadingHTTPServer((host, int(port)), {"gcs": SmallGcs, "azure": SmallAzure}[kind]).serve_forever()
