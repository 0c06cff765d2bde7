"""A small HTTP server that strangers may talk to: bounded in threads, bounded in time.

It is the standard library's WSGI server with three bounds. A connection has `DEADLINE_S` seconds from its
acceptance to its end, however slowly it talks. At most `CONNECTIONS` are served at once. When one more comes, the
oldest is cut off: slow clients are always the oldest, so that a probe or a scrape gets through a crowd of them.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from worker.pages.guard import OPEN, Guard

CONNECTIONS = 16
DEADLINE_S = 10.0
MAKE_ROOM_S = 0.2
PROBES = ("/live", "/ready")

Answer = tuple[HTTPStatus, list[tuple[str, str]], bytes]
Route = Callable[[dict[str, Any]], Answer]
# Serves pages for as long as the context lasts, which says where.
Serving = Callable[[dict[str, Route]], AbstractContextManager[str]]


class BoundedServer(ThreadingMixIn, WSGIServer):
    """Serves routes on a background thread until `close`.

    Args:
        host: interface to listen on; an IPv4 or IPv6 address or a name.
        port: 0 takes any free one; see `port`.
        routes: path -> the answer to GET and HEAD, from the WSGI environment.
        guard: what clients must show.

    Raises:
        OSError: the address cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, routes: dict[str, Route], guard: Guard = OPEN) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._tls = guard.tls
        self._begun: dict[Any, float] = {}
        self._lock = threading.Lock()
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        self.set_app(_application(routes, guard))
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Stop listening and cut off who is being served."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        self._cut_off(begun_before=float("inf"))

    def server_bind(self) -> None:
        """Bind without the base class's reverse DNS query, which may take many seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.port
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, if there is a place or one can be made."""
        if not self._places.acquire(blocking=False):
            self._cut_off(oldest=True)
            if not self._places.acquire(timeout=MAKE_ROOM_S):
                self.shutdown_request(request)
                return
        try:
            if self._tls is not None:  # the handshake waits for the client, and has to be on the connection's thread
                request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has gone already
            self.shutdown_request(request)
            self._places.release()
            return
        with self._lock:
            self._begun[request] = time.monotonic()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, on the connection's thread, and give the place back."""
        try:
            if self._agreed(request):
                super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._begun.pop(request, None)
            self._places.release()

    def _agreed(self, request: Any) -> bool:
        """Whether the client and this server have agreed on TLS, where it is wanted."""
        if self._tls is None:
            return True
        try:
            request.settimeout(DEADLINE_S)
            request.do_handshake()
        except (OSError, ValueError):
            self.shutdown_request(request)
            return False
        return True

    def service_actions(self) -> None:
        """Called a few times a second: cut off those whose time is over."""
        self._cut_off(begun_before=time.monotonic() - DEADLINE_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away, or is cut off, in the middle of its request is no event."""

    def _cut_off(self, begun_before: float = 0.0, oldest: bool = False) -> None:
        with self._lock:
            late = [request for request, begun in self._begun.items() if begun < begun_before]
            for request in late or list(self._begun)[: int(oldest)]:
                try:
                    socket.socket.shutdown(request, socket.SHUT_RDWR)  # TLS would first change what a thread is using
                except OSError:
                    pass  # it has ended by itself


class _Handler(WSGIRequestHandler):
    timeout = DEADLINE_S  # of one read or write; of the whole, see service_actions

    def log_message(self, *args: Any) -> None:
        """Nothing: probes and scrapes are not events."""


def _application(routes: dict[str, Route], guard: Guard) -> Callable[..., Iterable[bytes]]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, headers, body = _answer(routes, environ, guard)
        headers = [*headers, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _answer(routes: dict[str, Route], environ: dict[str, Any], guard: Guard) -> Answer:
    plain = ("Content-Type", "text/plain; charset=utf-8")
    path = environ.get("PATH_INFO", "")
    route = routes.get(path)
    if not guard.admits(environ.get("HTTP_AUTHORIZATION")):
        if path in PROBES and route is not None and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return route(environ)[0], [plain], b""  # an orchestrator has no login; it asks for no more than the status
        return HTTPStatus.UNAUTHORIZED, [plain, ("WWW-Authenticate", 'Basic realm="cellstream"')], b"log in\n"
    if route is None:
        return HTTPStatus.NOT_FOUND, [plain], f"not found; there is {', '.join(routes)}\n".encode()
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return HTTPStatus.METHOD_NOT_ALLOWED, [plain, ("Allow", "GET, HEAD")], b"only GET and HEAD\n"
    return route(environ)
