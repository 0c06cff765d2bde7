"""Workers, their traffic, and a Prometheus that scrapes them by the shipped rules on a faster clock.

A record is a sample of one of a few streams, and its clock runs ahead: it is answered in time however busy the machine
is, so that events come late in those tests alone that are about lateness.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.brokers.process import Process
from tests.deploy.faster import FILES, write_faster
from tests.deploy.pages import address_of, is_ready, reading
from tests.deploy.prometheus import JOB, Prometheus
from tests.deployment import Deployment, beside, until

# Ten minutes are 20 s, and a window of five still holds ten scrapes. With a larger factor the pauses of a busy machine
# would themselves be long enough to call somebody.
FACTOR = 30
RETENTION_S = 40  # of the input topic
STREAMS = 20
PARTITIONS = 4
PATIENCE_S = 300.0
AHEAD_S = 600  # brokers take no more than an hour
Record = dict[str, object]

_fired: set[str] = set()


def fires(*alerts: str) -> pytest.MarkDecorator:
    """Mark a test whose fault must make these alerts fire, and no others: its `scene` waits for them."""
    _fired.update(alerts)
    return pytest.mark.parametrize("scene", [frozenset(alerts)], indirect=True, ids=["+".join(alerts) or "none"])


def fired_for_real() -> set[str]:
    """The alerts of all tests that were imported."""
    return _fired


def sample(number: int, late: bool = False, **others: object) -> Record:
    """The record of that number, of one of a few streams.

    Args:
        number: which one.
        late: its time is so long ago that its event cannot be in time.
        others: fields of the record that differ.
    """
    behind_s = 10 if late else -AHEAD_S
    features = ",".join(f"{(number * step % 17) / 17:.3f}" for step in (3, 5, 7))
    record: Record = {
        "key": f"stream-{number % STREAMS}".encode(),
        "value": f'{{"features":[{features}]}}'.encode(),
        "timestamp": round((time.time() - behind_s) * 1000),
    }
    return record | others


class Scene:
    """One group of workers that is watched.

    Args:
        deployment: with topics and nothing else.
        directory: for Prometheus.
        alerts: that must fire.

    Attributes:
        workers: that were started, by name.
    """

    def __init__(self, deployment: Deployment, directory: Path, alerts: frozenset[str]) -> None:
        self.deployment = deployment
        self.alerts = alerts
        self.workers: dict[str, Process] = {}
        self._directory = directory
        self._prometheus: Prometheus | None = None
        self._producer = Producer(deployment.cluster.conf | {"linger.ms": "20"})
        self._numbers = itertools.count()

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        """End everything by force: how workers leave is the law of other tests."""
        for worker in self.workers.values():
            if worker.returncode is None:
                worker.kill()
        if self._prometheus is not None:
            self._prometheus.__exit__(None, None, None)

    @property
    def prometheus(self) -> Prometheus:
        """It is there from the first worker on."""
        assert self._prometheus is not None, "no worker was started"
        return self._prometheus

    # Workers

    def start(self, name: str = "worker-0", *flags: str, ready: bool = True) -> Process:
        """Start a worker, wait until it is ready, and have it scraped.

        Args:
            name: its instance ID.
            flags: added to the deployment's.
            ready: False waits for its pages only.
        """
        worker = self.workers[name] = self.deployment.start_worker(name, *flags)
        until(lambda: address_of(worker) is not None, f"{name}'s pages", worker)
        if ready:
            until(lambda: is_ready(worker), f"{name} to be ready", worker)
        self.scrape()
        return worker

    def scrape(self) -> None:
        """Have all workers scraped that were started, dead or alive."""
        targets = [address_of(worker) or "" for worker in self.workers.values()]
        if self._prometheus is not None:
            self._prometheus.scrape(*targets)
            return
        rules = [self._directory / name for name in FILES]
        self._prometheus = Prometheus(self._directory / "prometheus", rules, "1s", *targets).__enter__()
        # It takes up its first targets after some seconds, in which a worker would be missed.
        self.until(lambda: bool(self.prometheus.query(f'up{{job="{JOB}"}}')), "the first scrape")
        write_faster(self._directory, FACTOR)
        self._prometheus.reload()
        self.until(lambda: bool(self.prometheus.ask("rules")["groups"]), "the rules")

    def counted(self, name: str) -> float:
        """A metric of all live workers, summed."""
        return sum(reading(worker, name) for worker in self._alive())

    def _alive(self) -> list[Process]:
        return [worker for worker in self.workers.values() if worker.returncode is None]

    # Traffic

    def publish(self, count: int, record: Callable[[int], Record] = sample) -> None:
        """Publish the next so many records, and wait until the broker has them."""
        for number in itertools.islice(self._numbers, count):
            self._producer.produce(self.deployment.input_topic, on_delivery=_delivered, **record(number))
            self._producer.poll(0)
        assert self._producer.flush(120) == 0

    def flowing(self, records_s: int = 200, record: Callable[[int], Record] = sample) -> AbstractContextManager[None]:
        """Publish at about this rate in the background for as long as the context lasts."""
        return beside(lambda: self.publish(records_s // 4, record), every_s=0.25)

    # Alerts

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self._active() if alert["state"] == "firing"}

    def pending(self) -> set[str]:
        """The alerts whose condition holds, and not yet for long enough."""
        return {alert["labels"]["alertname"] for alert in self._active() if alert["state"] == "pending"}

    def have_fired(self) -> set[str]:
        """The alerts that have fired at any time."""
        found = self.prometheus.query('count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))')
        return {labels["alertname"] for labels, _ in found}

    def nothing_else_has_fired(self) -> None:
        """Of all alerts, at any time, than those of the test.

        Raises:
            AssertionError: one has.
        """
        others = self.have_fired() - self.alerts
        assert not others, f"{', '.join(sorted(others))}: not for this fault"

    def rounds(self) -> float:
        """How often the rules have found metrics of partitions."""
        found = self.prometheus.query("count_over_time(job:cellstream_consumer_lag_records:sum[1d])")
        return sum(count for _, count in found)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while Prometheus and the workers live that live now."""
        until(condition, what, self.prometheus.process, *self._alive(), within_s=PATIENCE_S)

    def until_firing(self, *alerts: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all these alerts fire at the same time; if none is named, all of the test's, and none but those.

        Args:
            alerts: their names.
            meanwhile: is done again and again.
        """
        wanted = frozenset(alerts) or self.alerts

        def all_fire() -> bool:
            meanwhile()
            return wanted <= self.firing() & self.have_fired()  # the one is told a moment before the other is stored

        try:
            self.until(all_fire, f"{', '.join(sorted(wanted))} to fire")
        except AssertionError as fault:
            raise AssertionError(f"firing: {self.firing()}, pending: {self.pending()}: {fault}") from None
        if not alerts:
            self.nothing_else_has_fired()

    def _active(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.prometheus.ask("alerts")["alerts"]
        return found


def _delivered(error: KafkaError | None, message: Message) -> None:
    assert error is None, error
