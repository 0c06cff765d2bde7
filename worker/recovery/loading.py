"""A checkpoint that is loaded beside the loop where its store may take long, or not answer at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_Loaded = TypeVar("_Loaded")


def begin(load: Callable[[], _Loaded], *, background: bool) -> Future[_Loaded]:
    """Call `load`, and return where its result, or what it raises, will be.

    Args:
        load: touches nothing that somebody else changes.
        background: on a thread of its own; else it is done when this returns.
    """
    future: Future[_Loaded] = Future()

    def run() -> None:
        try:
            future.set_result(load())
        except BaseException as fault:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(fault)

    if background:
        # A daemon: a store that hangs must not keep the process from ending. Nobody waits for a load that was given up.
        threading.Thread(target=run, name="load", daemon=True).start()
    else:
        run()
    return future
