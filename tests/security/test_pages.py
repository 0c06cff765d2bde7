"""The pages' guards: who has no login or certificate reads nothing, and nobody keeps those out who have one."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.brokers.certificates import CLIENT, SERVER, Authority, encrypt
from worker.errors import UsageError
from worker.metrics import Metrics
from worker.pages import server as http_server
from worker.pages.guard import OPEN, Guard, guard_of
from worker.pages.health import Health, pages, serve
from worker.pages.probe import live
from worker.pages.server import CONNECTIONS, BoundedServer
from worker.settings import Settings
from worker.settings.sources import load_settings

USER, PASSWORD = "prometheus", "correct: horse"
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
WITH_LOGIN = {"metrics_username": USER, "metrics_password": PASSWORD}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> dict[str, str]:
    """The settings of a server with TLS."""
    certificate, key = authority.sign("server", "/CN=localhost", SERVER)
    return {"metrics_tls_certificate": str(certificate), "metrics_tls_key": str(key)}


@contextmanager
def served(guard: Guard, routes: dict[str, http_server.Route] | None = None) -> Iterator[BoundedServer]:
    server = serve(routes or pages(Metrics(), Health()), "127.0.0.1", 0, guard)
    try:
        yield server
    finally:
        server.close()


def ask(
    server: BoundedServer, path: str, headers: dict[str, str] | None = None, trust: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    if trust is not None:
        connection = HTTPSConnection("127.0.0.1", server.port, timeout=30, context=trust)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_nobody_else_on_the_network_reaches_the_pages_unless_a_setting_says_so() -> None:
    assert Settings().metrics_host == "127.0.0.1"
    assert guard_of(Settings()) == OPEN


def test_metrics_ask_for_the_login_and_probes_tell_others_their_status_alone() -> None:
    with served(guard_of(Settings(**WITH_LOGIN))) as server:
        assert ask(server, "/metrics")[0] == 401
        assert ask(server, "/no-such-page")[0] == 401
        assert ask(server, "/live") == (200, b"")
        assert ask(server, "/ready") == (503, b"")
        status, body = ask(server, "/metrics", LOGIN)
        assert (status, b"cellstream_" in body) == (200, True)
        assert b"waiting for" in ask(server, "/ready", LOGIN)[1]


def basic(login: bytes) -> str:
    return "Basic " + base64.b64encode(login).decode()


@given(st.one_of(st.none(), st.text(), st.binary().map(basic), st.text().map(lambda text: f"Basic {text}")))
def test_no_other_header_is_taken_for_the_login(header: str | None) -> None:
    guard = guard_of(Settings(**WITH_LOGIN))
    assert guard.admits(header) == (header == LOGIN["Authorization"])


def test_tls_serves_who_trusts_the_authority_and_tells_nothing_in_plain_text(
    authority: Authority, files: dict[str, str]
) -> None:
    trust = ssl.create_default_context(cafile=authority.certificate)
    with served(guard_of(Settings(**files))) as server:
        assert ask(server, "/live", trust=trust)[0] == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in client.recv(65536)
        with pytest.raises(ssl.SSLError, match=r"self-signed|unable to get"):
            ask(server, "/live", trust=ssl.create_default_context())
        assert ask(server, "/live", trust=trust)[0] == 200


def test_with_an_authority_for_clients_only_its_own_come_in(
    authority: Authority, files: dict[str, str], tmp_path: Path
) -> None:
    with served(guard_of(Settings(**files, metrics_tls_client_ca=str(authority.certificate)))) as server:
        for signer, good in ((authority, True), (None, False), (Authority(tmp_path / "alien"), False)):
            trust = ssl.create_default_context(cafile=authority.certificate)
            if signer is not None:
                trust.load_cert_chain(*signer.sign("client", "/CN=client", CLIENT))
            if good:
                assert ask(server, "/metrics", trust=trust)[0] == 200
            else:
                with pytest.raises(OSError, match=r"alert|EOF|reset|[Bb]roken"):
                    ask(server, "/metrics", trust=trust)


def test_clients_that_never_shake_hands_keep_no_scrape_out_and_take_bounded_threads(
    authority: Authority, files: dict[str, str]
) -> None:
    trust = ssl.create_default_context(cafile=authority.certificate)
    with served(guard_of(Settings(**files))) as server:
        before = threading.active_count()
        crowd = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3 * CONNECTIONS)]
        try:
            assert [ask(server, "/live", trust=trust)[0] for _ in range(3)] == [200] * 3
            assert threading.active_count() <= before + CONNECTIONS + 1
        finally:
            for client in crowd:
                client.close()


@pytest.mark.parametrize("secure", [False, True])
def test_a_client_that_does_not_read_holds_nobody_up_and_is_cut_off(
    authority: Authority, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    trust = ssl.create_default_context(cafile=authority.certificate) if secure else None
    large = HTTPStatus.OK, [("Content-Type", "text/plain")], b"x" * 50_000_000
    routes: dict[str, http_server.Route] = {
        "/large": lambda _: large,
        "/live": lambda _: (HTTPStatus.OK, [("Content-Type", "text/plain")], b"yes"),
    }
    with served(guard_of(Settings(**(files if secure else {}))), routes) as server:
        before = threading.active_count()
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        client = trust.wrap_socket(plain, server_hostname="localhost") if trust else plain
        with client:
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            assert client.recv(15).startswith(b"HTTP/1.0 200")
            assert ask(server, "/live", trust=trust) == (200, b"yes")  # while the other one is still being served
            assert threading.active_count() > before
            monkeypatch.setattr(http_server, "DEADLINE_S", 0.1)
            while threading.active_count() > before:  # ends when the server has given it up
                ask(server, "/live", trust=trust)


def test_files_that_are_no_certificate_are_told_by_the_setting(
    authority: Authority, files: dict[str, str], tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    locked = str(encrypt(Path(files["metrics_tls_key"]), "password"))
    for change in (
        {"metrics_tls_certificate": str(nonsense)},
        {"metrics_tls_certificate": str(tmp_path / "absent.pem")},
        {"metrics_tls_key": locked},
        {"metrics_tls_client_ca": str(nonsense)},
        {"metrics_tls_client_ca": str(tmp_path / "absent.pem")},
    ):
        with pytest.raises(UsageError, match=next(iter(change))):
            guard_of(Settings(**{**files, **change}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics_username": "a"}, "set both"),
        ({"metrics_password": PASSWORD}, "set both"),
        ({"metrics_username": "a:b", "metrics_password": PASSWORD}, "metrics.username"),
        ({"metrics_tls_key": "key.pem"}, "set metrics_tls_certificate"),
        ({"metrics_tls_client_ca": "ca.pem"}, "set metrics_tls_certificate"),
    ],
)
def test_half_a_guard_is_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as told:
        load_settings(given, {}, None)
    assert PASSWORD not in str(told.value)


@pytest.mark.parametrize("guarded", ["open", "login", "tls"])
def test_a_containers_own_check_asks_as_the_settings_say(guarded: str, files: dict[str, str]) -> None:
    given = {"open": {}, "login": WITH_LOGIN, "tls": files}[guarded]
    health = Health(limit_s=10, timer=iter([0.0, 1.0, 20.0]).__next__)
    with served(guard_of(Settings(**given)), pages(Metrics(), health)) as server:
        named = {f"CELLSTREAM_{name.upper()}": value for name, value in given.items()}
        environment = {"CELLSTREAM_METRICS_HOST": "127.0.0.1", "CELLSTREAM_METRICS_PORT": str(server.port), **named}
        assert live(environment)
        assert not live(environment), "the loop hangs"
    assert not live(environment), "nobody serves"
