"""A supervisor's members, with a work that is nothing but waiting."""

from __future__ import annotations

import signal
import threading
import time
from threading import Event

import pytest

from worker.commands.run import stopped_by_signals
from worker.members import Supervisor
from worker.pages.server import Serving
from worker.settings import Settings

pytestmark = pytest.mark.timeout(120)


def leaves_slowly(settings: Settings, stop: Event, serving: Serving) -> int:
    """Ends in order, each member later than the one before it."""
    with stopped_by_signals(stop, signal.SIGTERM), serving({}):
        stop.wait()
        time.sleep(0.5 * int(settings.instance_id[-1]))
    return 0


def refuses(settings: Settings, stop: Event, serving: Serving) -> int:
    """The last member refuses, the others work on."""
    return 3 if settings.instance_id.endswith("-2") else leaves_slowly(settings, stop, serving)


def supervisor(work: object) -> Supervisor:
    return Supervisor(Settings(workers=3, metrics_port=0, instance_id="w"), work)  # type: ignore[arg-type]


def test_members_that_take_their_time_to_stop_are_given_it() -> None:
    stop = Event()
    threading.Timer(5.0, stop.set).start()  # by then they wait; one that does not yet is stopped all the same
    assert supervisor(leaves_slowly).run(stop) == 0


def test_a_refusal_of_one_ends_all_with_its_code() -> None:
    assert supervisor(refuses).run(Event()) == 3
