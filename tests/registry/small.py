"""A Schema Registry of a hundred lines' worth: the four requests that the worker makes, and a switch to be away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from worker.registry.client import Registry
from worker.settings import Settings


class SmallRegistry:
    """Schemas by ID; `away` answers 503, `asked` counts requests."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.away = False
        self.asked = 0
        self.url = ""

    def add(self, schema: Any, kind: str = "AVRO", subject: str = "") -> int:
        """Register a schema; its ID."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        entry = {"schema": text, "schemaType": kind, "subject": subject}
        if entry not in self.schemas:
            self.schemas.append(entry)
        return self.schemas.index(entry) + 1

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and content."""
        self.asked += 1
        if self.away:
            return 503, {"error_code": 50301, "message": "away"}
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["schemas", "ids"] and 0 < int(parts[2]) <= len(self.schemas):
            return 200, self.schemas[int(parts[2]) - 1]
        if parts[0] == "subjects":
            entry = {"schema": body["schema"], "schemaType": body.get("schemaType", "AVRO"), "subject": parts[1]}
            if parts[-1] == "versions":
                return 200, {"id": self.add(body["schema"], entry["schemaType"], parts[1])}
            if entry in self.schemas:
                return 200, {**entry, "id": self.schemas.index(entry) + 1, "version": 1}
        return 404, {"error_code": 40403, "message": "not found"}


def of(registry: SmallRegistry, codec: Any, **others: Any) -> Settings:
    """Settings by which samples and events are of one of the codecs with schemas."""
    return Settings(schema_registry_url=registry.url, input_codec=codec, output_codec=codec, **others)


def just_started(registry: Registry) -> Registry:
    """The same, as a worker has it that has just been started: it knows nothing yet. A client takes a while to make."""
    fresh = copy(registry)
    fresh._known, fresh._unknown = {}, {}
    return fresh


@contextmanager
def small_registry() -> Iterator[SmallRegistry]:
    """One on loopback."""
    registry = SmallRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            status, content = registry.answer(self.path, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815 - the base class' word

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join(60)
