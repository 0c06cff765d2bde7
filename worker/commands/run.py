"""`cellstream run`: the worker as a process."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

import structlog
import typer

from worker.errors import CellstreamError, UsageError
from worker.logs import configure_logging
from worker.pages.guard import guard_of
from worker.pages.health import on_port
from worker.pages.server import Serving
from worker.settings import Settings
from worker.settings.options import with_settings

log = structlog.get_logger("cellstream")

ENDING = (signal.SIGTERM, signal.SIGINT)


@with_settings()
def run(settings: Settings) -> None:
    """Answer every sample of a topic: one probability event each, exactly once, until SIGTERM or Ctrl-C.

    State is kept for every stream, checkpointed, and restored after a crash or a rebalance. To scale out, start
    more workers with the same group ID and the same checkpoints, each with an instance ID of its own; on one machine
    `--workers N` does that: one for each core, with their metrics on one port, started again when they die.

    Example:
        cellstream run --bootstrap-servers kafka:9092 --artifact artifact --checkpoints /var/lib/cellstream
    """
    if settings.artifact is None:
        raise UsageError("--artifact: which directory? `cellstream train` and `cellstream export` write one")
    _configure_logging(settings)
    stop = Event()
    with stopped_by_signals(stop):
        if settings.workers == 1:
            host, port, guard = settings.metrics_host, settings.metrics_port, guard_of(settings)
            work(settings, stop, lambda pages: on_port(pages, host, port, guard))
            return
        from worker.members import Supervisor

        code = Supervisor(settings, work_as_member).run(stop)
    if code:
        raise typer.Exit(code)


def work(settings: Settings, stop: Event, serving: Serving) -> None:
    """One worker, until `stop`."""
    from worker.assembly import assemble  # TensorFlow: seconds that --help need not wait for

    with assemble(settings, serving) as worker:
        quiet_garbage_collector()
        log.info(
            "started",
            group_id=settings.group_id,
            instance_id=settings.instance_id,
            input_topic=settings.input_topic,
            output_topic=settings.output_topic,
            delivery=settings.delivery,
            artifact=worker.digest[:12],
        )
        try:
            worker.startup()
            worker.run(stop)
        except BaseException:
            worker.fail()
            raise
        worker.shutdown()
        log.info("stopped")


def work_as_member(settings: Settings, stop: Event, serving: Serving) -> int:
    """One worker of several, in a process of its own; the exit code."""
    from worker.cli import say

    _configure_logging(settings)
    structlog.contextvars.bind_contextvars(worker=settings.instance_id)
    try:
        with stopped_by_signals(stop, signal.SIGTERM):
            work(settings, stop, serving)
    except CellstreamError as fault:
        return say(fault)
    return 0


def _configure_logging(settings: Settings) -> None:
    configure_logging(settings.log_format, settings.log_level)
    logging.getLogger("librdkafka").setLevel(max(logging.WARNING, logging.getLogger().level))


@contextmanager
def stopped_by_signals(stop: Event, *numbers: int) -> Iterator[None]:
    """SIGTERM and SIGINT, or the signals that are named, set `stop`; a second one ends the process at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in numbers or ENDING}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def quiet_garbage_collector() -> None:
    """Take what exists now out of the collector's sight, and let it look at the rest rarely.

    TensorFlow leaves half a million objects that every full collection would walk, and each poll makes ten
    thousand that are gone a moment later: with the defaults more time goes into collecting than into stepping.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
