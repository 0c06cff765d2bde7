"""A generator in a process of its own: what it leaves in memory goes with it.

TensorFlow keeps every network that was fitted, 20 MB each, or 100 where XLA compiled it, for as long as its process
lasts; a search fits a hundred.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from worker.errors import FatalFault

if TYPE_CHECKING:
    from training.member import OnEpoch

T = TypeVar("T")


def apart(make: Callable[..., Iterator[T]], *given: Any, on_epoch: OnEpoch) -> Generator[T]:
    """Yield what `make(*given, on_epoch)` yields; it goes on when the next one is asked for, and ends with this.

    Args:
        make: a function of a module; Ctrl-C does not reach it.
        given: what can be pickled.
        on_epoch: called here.

    Raises:
        FatalFault: the process was killed, as where memory runs out.
        Exception: whatever `make` raised.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, make, given), daemon=True)
    process.start()
    theirs.close()
    try:
        while (said := ours.recv())[0] != "end":
            what, content = said
            if what == "epoch":
                on_epoch(*content)
            elif what == "fault":
                raise content
            else:
                yield content
                ours.send("next")
    except EOFError:
        process.join()
        raise FatalFault(f"the process that fitted a network ended with {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
        ours.close()


def _run(parent: Connection, make: Callable[..., Iterator[Any]], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    try:
        for item in make(*given, lambda *epoch: parent.send(("epoch", epoch))):
            parent.send(("item", item))
            parent.recv()
        parent.send(("end", None))
    except Exception as fault:  # noqa: BLE001 - it is raised there
        parent.send(("fault", fault))
