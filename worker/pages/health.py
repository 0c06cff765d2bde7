"""Whether the worker lives and is ready, and the three pages that say so: /live, /ready, /metrics.

Live means that the loop has turned lately; a container that is not gets restarted. Ready means that the worker is a
member of its group, and that the state of every assigned partition is restored. Neither takes part in what it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import make_wsgi_app

from worker.errors import UsageError
from worker.metrics import Metrics
from worker.pages.guard import OPEN, Guard
from worker.pages.server import Answer, BoundedServer, Route

LIMIT_S = 150.0  # longer than a commit waits for a broker: a restart would not bring the broker back


class Health:
    """Set by the loop, read by the pages' threads.

    Attributes:
        ready: in the group, and every assigned partition is restored; the loop sets it.
        waiting_for: while not ready, what for; for people.

    Args:
        limit_s: seconds without a turn of the loop after which the worker counts as hung.
        timer: monotonic seconds.
    """

    def __init__(self, limit_s: float = LIMIT_S, timer: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self.timer = timer
        self.ready = False
        self.waiting_for = "an assignment"
        self._turned = timer()

    def beat(self) -> None:
        """The loop has turned."""
        self._turned = self.timer()

    @property
    def age_s(self) -> float:
        """Seconds since the last turn."""
        return self.timer() - self._turned

    @property
    def live(self) -> bool:
        """The loop has turned within the limit."""
        return self.age_s <= self.limit_s

    def live_report(self) -> tuple[bool, dict[str, Any]]:
        """The verdict, and what /live says."""
        age_s = self.age_s
        report: dict[str, Any] = {
            "live": age_s <= self.limit_s,
            "last_turn_s": round(age_s, 3),
            "limit_s": self.limit_s,
        }
        if age_s > self.limit_s:
            report["reason"] = f"the loop has not turned for {age_s:.1f} s, limit {self.limit_s:g} s"
        return report["live"], report

    def ready_report(self) -> tuple[bool, dict[str, Any]]:
        """The verdict, and what /ready says; a hung loop is not ready either."""
        live, report = self.live_report()
        if not live:
            return False, {"ready": False, "reason": report["reason"]}
        if not self.ready:
            return False, {"ready": False, "reason": f"waiting for {self.waiting_for}"}
        return True, {"ready": True}


def pages(metrics: Metrics, health: Health) -> dict[str, Route]:
    """/metrics, /live and /ready of one worker.

    Args:
        metrics: whose registry is scraped.
        health: what the probes ask.
    """
    metrics.ready.set_function(lambda: float(health.ready_report()[0]))  # by the scrape: a loop that hangs is not ready
    scrape = make_wsgi_app(metrics.registry)
    return {
        "/metrics": lambda environ: through(scrape, environ),
        "/live": lambda _: _json(*health.live_report()),
        "/ready": lambda _: _json(*health.ready_report()),
    }


def serve(routes: dict[str, Route], host: str, port: int, guard: Guard = OPEN) -> BoundedServer:
    """Serve pages in the background.

    Args:
        routes: see `pages`.
        host: interface, `settings.metrics_host`.
        port: 0 takes any free port; the server's `port` says which.
        guard: what clients must show.

    Raises:
        UsageError: the address cannot be had.
    """
    try:
        return BoundedServer(host, port, routes, guard)
    except OSError as fault:
        remedy = "set metrics_host and metrics_port to an address of this machine that is free; port 0 takes any"
        raise UsageError(f"cannot serve metrics on {host}:{port}: {fault.strerror or fault}; {remedy}") from fault


@contextmanager
def on_port(routes: dict[str, Route], host: str, port: int, guard: Guard = OPEN) -> Iterator[str]:
    """Serve pages for as long as the context lasts; it says where."""
    server = serve(routes, host, port, guard)
    try:
        yield f"{'https' if guard.tls else 'http'}://{host}:{server.port}/metrics"
    finally:
        server.close()


def through(application: Any, environ: dict[str, Any]) -> Answer:
    """What prometheus-client's own WSGI application answers to GET."""
    said: list[Any] = []
    body = b"".join(application({**environ, "REQUEST_METHOD": "GET"}, lambda *args: said.extend(args)))
    return HTTPStatus(int(said[0].split()[0])), said[1], body


def _json(good: bool, report: dict[str, Any]) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, [("Content-Type", "application/json")], msgspec.json.encode(report) + b"\n"
