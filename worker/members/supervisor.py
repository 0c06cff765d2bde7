"""The process above several workers."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from threading import Event

import structlog

from worker.members.member import Member, Work
from worker.members.pages import pages_of
from worker.pages.guard import guard_of
from worker.pages.health import on_port
from worker.settings import Settings

log = structlog.get_logger("cellstream")

# Exit codes that a restart would only repeat: wrong settings, and refusals that ask for a decision.
FINAL = (2, 3)
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # who ran for so long begins with the shortest pause again
LOOK_S = 0.2


@dataclass(slots=True)
class Place:
    """One of the N; its member comes and goes.

    Attributes:
        settings: of its members.
        member: None between two.
        restarts: members that were started after the first.
        failed: how often in a row a member did not last.
        since: when the member was started, or when it ended; monotonic seconds.
    """

    settings: Settings
    member: Member | None = None
    restarts: int = 0
    failed: int = 0
    since: float = field(default_factory=time.monotonic)


class Supervisor:
    """Run several workers of one group as one.

    Args:
        settings: of all; each worker's `instance_id` gets its number behind it, and so does a static
            `group.instance.id`.
        work: see `Member`.
    """

    def __init__(self, settings: Settings, work: Work) -> None:
        self._settings = settings
        self._work = work
        self.places = [Place(member_settings(settings, number)) for number in range(settings.workers)]

    def run(self, stop: Event) -> int:
        """Keep all workers running until `stop`, then stop them; the exit code of the whole.

        A worker that ends with one of `FINAL` stops all: its words ask for a decision.
        """
        settings = self._settings
        pages = pages_of(self.members, self.restarts)
        with on_port(pages, settings.metrics_host, settings.metrics_port, guard_of(settings)) as at:
            log.info("supervising", workers=len(self.places), metrics=at)
            verdict = 0
            try:
                for place in self.places:
                    self._start(place)
                while not stop.is_set() and not verdict:
                    sentinels = [place.member.sentinel for place in self.places if place.member]
                    wait(sentinels, LOOK_S) if sentinels else stop.wait(LOOK_S)
                    verdict = self._look(stop)
            finally:
                ended = self._stop_all()
        unclean = [code for code in ended if code not in (0, -signal.SIGTERM)]  # asked to end before it could begin
        return verdict or max([1, *unclean] if unclean else [0])

    def members(self) -> Mapping[str, Member | None]:
        """The worker in each place, by name; None while there is none."""
        return {place.settings.instance_id: place.member for place in self.places}

    def restarts(self) -> Mapping[str, int]:
        """How often each was started again."""
        return {place.settings.instance_id: place.restarts for place in self.places}

    def _start(self, place: Place) -> None:
        place.member, place.since = Member(place.settings, self._work), time.monotonic()
        log.info("worker_started", instance_id=place.settings.instance_id, pid=place.member.pid)

    def _look(self, stop: Event) -> int:
        """Note who ended, start who is due; an exit code that ends all, or 0."""
        for place in self.places:
            now = time.monotonic()
            if place.member is not None and place.member.exit_code is not None:
                code = self._ended(place, now)
                if code in FINAL and not stop.is_set():
                    return code
            elif place.member is None and now >= place.since + PAUSES_S[min(place.failed, len(PAUSES_S)) - 1]:
                self._start(place)
                place.restarts += 1
        return 0

    def _ended(self, place: Place, now: float) -> int:
        assert place.member is not None
        code = place.member.wait()
        place.failed = 1 if now - place.since > STEADY_S else place.failed + 1
        place.member, place.since = None, now
        log.error("worker_ended", instance_id=place.settings.instance_id, exit_code=code)
        return code

    def _stop_all(self) -> list[int]:
        """Stop the members together and give back their exit codes; each is asked once, for a second signal kills."""
        running = [place.member for place in self.places if place.member is not None]
        for member in running:
            member.stop()
        return [member.wait() for member in running]


def member_settings(settings: Settings, number: int) -> Settings:
    """Of the worker with this number: a name of its own, which the same place has after every restart."""
    kafka = dict(settings.kafka)
    if "group.instance.id" in kafka:
        kafka["group.instance.id"] += f"-{number}"
    return settings.model_copy(update={"instance_id": f"{settings.instance_id}-{number}", "kafka": kafka, "workers": 1})
