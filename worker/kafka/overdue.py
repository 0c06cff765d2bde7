"""A limit for calls that have one and do not keep to it.

librdkafka's transactional calls take a time-out, and some of them wait for ever all the same after a broker was lost
in the middle of one (issues 5456 and 5511): the group's heartbeats go on in the background, so that nobody else takes
the partitions over, and their streams are silent for good. A process can leave a call of C code only by ending.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from worker.errors import FatalFault

log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")

OVERDUE_S = 20
TICK_S = 1.0


def within(what: str, request: Callable[[], ResultT], limit_s: int = OVERDUE_S) -> ResultT:
    """Make a call, and end the process when it does not come back; whatever was not committed is left to the next one.

    The time is counted in ticks, so that a process that was stopped for a while has lost one of them and not its life.

    Args:
        what: the call, for the message.
        request: makes it.
        limit_s: seconds; several times the call's own time-out.
    """
    returned = threading.Event()

    def watch() -> None:
        for _ in range(limit_s):
            if returned.wait(TICK_S):
                return
        log.critical("overdue", call=what, seconds=limit_s, what_now="the process ends; start it again")
        os._exit(FatalFault.exit_code)

    threading.Thread(target=watch, name=f"overdue-{what}", daemon=True).start()
    try:
        return request()
    finally:
        returned.set()
