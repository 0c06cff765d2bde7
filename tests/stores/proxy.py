"""An HTTP proxy in front of a store, which does to each request what the test says.

slow down, denied, full   answer in the store's place: 503, 403 or 507
refuse                    hang up without an answer
hang                      no answer until the proxy is closed
lose                      let the store do it, and hang up without its answer
tear                      send half of the request's body to the store, then hang up on both sides
tear answer               send half of the answer's body, then hang up
ignore                    as a store that ignores conditions: where it refuses, say that it was done
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

REFUSALS = {
    "slow down": (503, "SlowDown"),
    "denied": (403, "AccessDenied"),
    "full": (507, "XMinioStorageFull"),
}


def _kind(method: str, path: str) -> str:
    """What a request asks for, in any of the three protocols."""
    if method == "HEAD" or (method == "GET" and path.startswith("/storage/v1/b/") and "/o/" in path):
        return "look"
    return {"GET": "read", "PUT": "write", "POST": "write", "DELETE": "remove"}[method]


class Proxy:
    """A proxy that runs while it is entered.

    Args:
        upstream: HOST:PORT of the store.

    Attributes:
        harm: says for a kind ("read", "look", "write", "remove") and a path what is done to a request; None lets it
            through.
        requests: kind and path of all that came.
    """

    def __init__(self, upstream: str) -> None:
        self.harm: Callable[[str, str], str | None] = lambda kind, path: None
        self.requests: list[tuple[str, str]] = []
        self._closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                proxy._handle(self, upstream)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815 - the library's names

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test says what it wants to see."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def once(self, harm: str, kind: str, path: str) -> Callable[[], bool]:
        """Do harm to the first request of a kind whose path has this in it; returns whether it came."""
        done = threading.Event()

        def plan(found: str, where: str) -> str | None:
            if found != kind or path not in where or done.is_set():
                return None
            done.set()
            return harm

        self.harm = plan
        return done.is_set

    def did(self, kind: str, path: str) -> bool:
        """Whether such a request has come."""
        return any(found == kind and path in where for found, where in list(self.requests))

    def _handle(self, request: Any, upstream: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        kind, path = _kind(request.command, request.path), request.path
        if request.command == "POST":
            path += body[:300].decode("latin-1")  # Google's uploads may have the name there
        self.requests.append((kind, path))
        harm = self.harm(kind, path)
        request.close_connection = harm is not None
        if harm in REFUSALS:
            self._refuse(request, *REFUSALS[harm])
        elif harm == "hang":
            self._closing.wait(60)
        elif harm != "refuse":
            self._forward(request, upstream, body, harm)

    def _refuse(self, request: Any, status: int, code: str) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the test</Message></Error>".encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/xml")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def _forward(self, request: Any, upstream: str, body: bytes, harm: str | None) -> None:
        connection = http.client.HTTPConnection(upstream, timeout=60)
        try:
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():  # Host, too: it is signed
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders()
            connection.send(body[: len(body) // 2] if harm == "tear" else body)
            if harm == "tear":
                return
            answer = connection.getresponse()
            content = answer.read()
            if harm == "lose":
                return
            request.send_response(201 if harm == "ignore" and answer.status in (409, 412) else answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    request.send_header(name, value)
            length = answer.headers.get("Content-Length") if request.command == "HEAD" else None
            request.send_header("Content-Length", length or str(len(content)))
            request.end_headers()
            request.wfile.write(content[: len(content) // 2] if harm == "tear answer" else content)
        except OSError:  # the client has given up
            request.close_connection = True
        finally:
            connection.close()
