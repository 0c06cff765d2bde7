"""Where the simulation takes the place of what the worker's modules name: client classes, clock, files, logs, thread.

The patches stand for as long as the context lasts and lead to whichever process is having its turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import worker.checkpoint.store
import worker.checkpoint.writer
import worker.kafka.messages
import worker.kafka.sink
import worker.kafka.source
import worker.kafka.survey
import worker.kafka.transaction
import worker.loop
import worker.recovery.restoring
from tests.simulator.admin import SimAdmin
from tests.simulator.consumer import SimConsumer
from tests.simulator.host import Host
from tests.simulator.producer import SimProducer
from tests.simulator.store import read_pickle, write_pickle

_turns: list[Host] = []


@contextmanager
def turn_of(host: Host) -> Iterator[None]:
    """What is made and asked meanwhile belongs to this process; turns may lie within one another."""
    _turns.append(host)
    try:
        yield
    finally:
        _turns.pop()


@contextmanager
def simulated() -> Iterator[None]:
    """Put the simulation in place."""
    clock = SimpleNamespace(monotonic=now, sleep=_sleep, time=time.time)
    replaced: list[tuple[Any, str, Any]] = [
        (worker.kafka.source, "Consumer", lambda conf, **rest: SimConsumer(_turns[-1], conf, **rest)),
        (worker.kafka.source, "AdminClient", lambda conf, **rest: SimAdmin(_turns[-1], conf, **rest)),
        (worker.kafka.sink, "Producer", lambda conf, **rest: SimProducer(_turns[-1], conf, **rest)),
        *((module, "time", clock) for module in (worker.kafka.sink, worker.kafka.survey, worker.kafka.transaction)),
        *((module, "log", _Log()) for module in _LOGGING),
        (worker.checkpoint.store, "write_file", write_pickle),
        (worker.checkpoint.store, "read_file", read_pickle),
        (worker.checkpoint.writer.threading, "Thread", _NoThread),
    ]
    patches = [patch.object(owner, name, new) for owner, name, new in replaced]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()


def now() -> float:
    """The simulated clock."""
    return _turns[-1].cluster.now


def _sleep(seconds: float) -> None:
    _turns[-1].cluster.advance(seconds)


_LOGGING = (
    worker.kafka.messages,
    worker.loop,
    worker.kafka.sink,
    worker.kafka.source,
    worker.kafka.survey,
    worker.kafka.transaction,
    worker.recovery.restoring,
)


class _Log:
    """What the worker logs, as lines of the trace; takes structlog's calls and logging's."""

    def info(self, event: str, *values: Any, **named: Any) -> None:
        words = event % values if values else event
        _turns[-1].note(" ".join([words, *(f"{name}={value}" for name, value in named.items())]))

    warning = error = info


class _NoThread:
    """The checkpoint writer's thread, which never runs: the schedule takes its steps."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        pass
