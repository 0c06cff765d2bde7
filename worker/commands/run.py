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

from worker.errors import UsageError
from worker.logs import configure_logging
from worker.options import with_settings
from worker.settings import Settings

log = structlog.get_logger("cellstream")


@with_settings()
def run(settings: Settings) -> None:
    """Answer every sample of a topic: one probability event each, exactly once, until SIGTERM or Ctrl-C.

    State is kept for every stream, checkpointed, and restored after a crash or a rebalance. To scale out, start
    more workers with the same group ID and the same checkpoints, each with an instance ID of its own.

    Example:
        cellstream run --bootstrap-servers kafka:9092 --artifact artifact --checkpoints /var/lib/cellstream
    """
    if settings.artifact is None:
        raise UsageError("--artifact: which directory? `cellstream train` and `cellstream export` write one")
    configure_logging(settings.log_format, settings.log_level)
    logging.getLogger("librdkafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    with stop_on_signals() as stop:
        from worker.assembly import assemble  # TensorFlow: seconds that --help need not wait for

        with assemble(settings) as worker:
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


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
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
