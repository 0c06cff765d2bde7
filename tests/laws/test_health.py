"""Laws of the health pages: they say what is, to many at once, and nobody can keep others from them."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse

import pytest

from worker.errors import UsageError
from worker.kafka.sink import CALL_TIMEOUT_S, GIVE_UP_S
from worker.metrics import Metrics
from worker.pages import server as http_server
from worker.pages.health import Health, pages, serve
from worker.pages.server import CONNECTIONS, BoundedServer


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(limit_s=10, timer=clock)


@pytest.fixture
def server(health: Health) -> Iterator[BoundedServer]:
    serving = serve(pages(Metrics(), health), "127.0.0.1", 0)
    yield serving
    serving.close()


def ask(server: BoundedServer, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_live_means_that_the_loop_has_turned_lately(server: BoundedServer, health: Health, clock: Clock) -> None:
    assert ask(server, "/live")[0].status == 200
    clock.now_s += 10.5
    response, body = ask(server, "/live")
    assert response.status == 503
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "live": False,
        "last_turn_s": 10.5,
        "limit_s": 10,
        "reason": "the loop has not turned for 10.5 s, limit 10 s",
    }
    health.beat()
    assert json.loads(ask(server, "/live")[1]) == {"live": True, "last_turn_s": 0.0, "limit_s": 10}


def test_the_metric_says_what_the_page_says(server: BoundedServer, health: Health, clock: Clock) -> None:
    def shown() -> bytes:
        return ask(server, "/metrics?name[]=cellstream_ready")[1].splitlines()[-1]

    assert shown() == b"cellstream_ready 0.0"
    health.ready = True
    assert shown() == b"cellstream_ready 1.0"
    clock.now_s += 11  # the loop hangs, and nobody is there to set anything
    assert shown() == b"cellstream_ready 0.0"


def test_ready_means_restored_and_live(server: BoundedServer, health: Health, clock: Clock) -> None:
    response, body = ask(server, "/ready")
    assert response.status == 503
    assert json.loads(body) == {"ready": False, "reason": "waiting for an assignment"}
    health.ready = True
    assert json.loads(ask(server, "/ready")[1]) == {"ready": True}
    clock.now_s += 11
    response, body = ask(server, "/ready")
    assert response.status == 503
    assert "has not turned" in json.loads(body)["reason"]


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
def test_head_gives_the_headers_of_get_and_no_body(server: BoundedServer, health: Health, path: str) -> None:
    health.ready = True
    response, body = ask(server, path, "HEAD")
    assert (response.status, body) == (200, b"")
    length = int(response.headers["Content-Length"])
    assert length > 0
    if path != "/metrics":
        assert length == len(ask(server, path)[1])


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/live/x", "/LIVE", "/%00"])
def test_unknown_path_is_not_found(server: BoundedServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_only_get_and_head_are_allowed(server: BoundedServer, method: str) -> None:
    response, _ = ask(server, "/metrics", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_query_is_no_part_of_the_path(server: BoundedServer) -> None:
    response, body = ask(server, "/metrics?name[]=cellstream_samples_total")
    assert response.status == 200
    assert b"cellstream_samples_total" in body
    assert b"cellstream_records_total" not in body


def test_a_worker_that_waits_for_its_broker_is_live() -> None:
    assert Health().limit_s > GIVE_UP_S + CALL_TIMEOUT_S


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\xff\x16\x03\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /live HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
        b"GET /live HTTP/1.1\r\nContent-Length: -x\r\n\r\n",
        b"",
    ],
)
def test_nonsense_harms_nobody(server: BoundedServer, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError as fault:  # the server did not care to read it all, and may be gone by now
            if fault.errno not in (errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE):
                raise
    assert ask(server, "/live")[0].status == 200
    assert capfd.readouterr().err == ""


def test_many_ask_at_once(server: BoundedServer, health: Health) -> None:
    health.ready = True
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        statuses = list(pool.map(lambda _: ask(server, "/ready")[0].status, range(200)))
    assert statuses == [200] * 200


def silent(server: BoundedServer, count: int) -> list[socket.socket]:
    """Clients that have begun a request and say no more."""
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(count)]
    for client in clients:
        client.sendall(b"GET /live HTTP/1.1\r\nX-Slow: ")
    return clients


def test_crowd_of_silent_clients_keeps_no_probe_out_and_takes_bounded_threads(server: BoundedServer) -> None:
    before = threading.active_count()
    clients = silent(server, 4 * CONNECTIONS)
    try:
        for path in ("/live", "/metrics", "/live"):
            assert ask(server, path)[0].status == 200
        assert threading.active_count() <= before + CONNECTIONS + 1
    finally:
        for client in clients:
            client.close()


def test_client_that_dribbles_is_cut_off_at_the_deadline(
    server: BoundedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "DEADLINE_S", 0.3)
    (client,) = silent(server, 1)

    def dribble() -> None:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            client.sendall(b"a")
            time.sleep(0.02)

    with client, pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        dribble()


def test_closed_server_gives_its_port_back_and_cuts_off_who_is_there(health: Health) -> None:
    server = serve(pages(Metrics(), health), "127.0.0.1", 0)
    port = server.port
    clients = silent(server, 3)
    assert ask(server, "/live")[0].status == 200
    begun = time.monotonic()
    server.close()
    assert time.monotonic() - begun < 10
    for client in clients:
        with client:
            client.recv(100)  # ends, because the server has ended the connection
    serve(pages(Metrics(), health), "127.0.0.1", port).close()


def test_address_that_cannot_be_had_is_said(server: BoundedServer, health: Health) -> None:
    for host, port in (("127.0.0.1", server.port), ("192.0.2.1", 0), ("no.such.host.invalid", 0)):
        with pytest.raises(UsageError, match="set metrics_host and metrics_port"):
            serve(pages(Metrics(), health), host, port)


def test_ipv6_and_names_are_served(health: Health) -> None:
    for host in ("::1", "localhost"):
        try:
            server = serve(pages(Metrics(), health), host, 0)
        except UsageError:
            continue  # this machine has no IPv6
        connection = HTTPConnection(host, server.port, timeout=30)
        connection.request("GET", "/live")
        assert connection.getresponse().status == 200
        connection.close()
        server.close()
