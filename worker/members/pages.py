"""/metrics, /live and /ready of several workers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from worker.members.member import Member
from worker.pages.health import through
from worker.pages.server import Answer, Route

Members = Callable[[], Mapping[str, Member | None]]


def pages_of(members: Members, restarts: Callable[[], Mapping[str, int]]) -> dict[str, Route]:
    """The pages of the whole: every metric of every worker with a label `worker`, and ready when all are.

    Args:
        members: the workers by name; None for one that is not running.
        restarts: how often each was started again.
    """
    registry = CollectorRegistry()
    registry.register(Together(members, restarts))
    scrape = make_wsgi_app(registry)
    return {
        "/metrics": lambda environ: through(scrape, environ),
        "/live": lambda _: _verdict(members(), "/live"),
        "/ready": lambda _: _verdict(members(), "/ready"),
    }


class Together(Collector):
    """The workers' own expositions, one below the other."""

    def __init__(self, members: Members, restarts: Callable[[], Mapping[str, int]]) -> None:
        self._members = members
        self._restarts = restarts

    def describe(self) -> list[Metric]:
        """Nothing: the workers are not asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask every worker; one that does not answer is missing, and `cellstream_worker_up` says so."""
        up = GaugeMetricFamily("cellstream_worker_up", "Whether the worker answers.", labels=["worker"])
        again = CounterMetricFamily("cellstream_worker_restarts", "Workers started again.", labels=["worker"])
        families: dict[str, Metric] = {}
        for name, member in self._members().items():
            answer = None if member is None else member.ask("/metrics")
            answered = answer is not None and answer[0] == HTTPStatus.OK
            up.add_metric([name], float(answered))
            again.add_metric([name], self._restarts()[name])
            if answer is None or not answered:
                continue
            for family in text_string_to_metric_families(answer[2].decode()):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    known.add_sample(sample.name, {**sample.labels, "worker": name}, sample.value)
        yield from (up, again, *families.values())


def _verdict(members: Mapping[str, Member | None], page: str) -> Answer:
    """Good when every worker says so, with the words of each; one that is between two starts does not count as hung."""
    good = True
    report: dict[str, Any] = {}
    for name, member in members.items():
        answer = None if member is None else member.ask(page)
        if member is None:
            good, report[name] = good and page == "/live", "is started again soon"
        else:
            good = good and answer is not None and answer[0] == HTTPStatus.OK
            report[name] = "does not answer" if answer is None else msgspec.json.decode(answer[2])
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    body = msgspec.json.encode({page.removeprefix("/"): good, "workers": report})
    return status, [("Content-Type", "application/json")], body + b"\n"
