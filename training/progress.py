"""How a training shows itself in the terminal, and how Ctrl-C ends it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from training.member import OnEpoch

TOLD = 10  # times in a training whose progress goes to a file


@contextmanager
def epoch_bar(console: Console, epochs: int, of: str = "") -> Iterator[OnEpoch]:
    """One line that tells epoch, losses and time as training goes; in a file or a pipe some lines, without colours.

    Args:
        console: where to.
        epochs: at most so many, over all networks.
        of: what is trained, with a space behind it; empty where there is only one.
    """
    if not console.is_terminal:
        yield _told_at_times(console, epochs, of)
        return
    columns = (
        TextColumn(of + "epoch {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=epochs)

        def on_epoch(epoch: int, loss: float, val_loss: float) -> None:
            progress.update(task, completed=epoch, description=f"loss {loss:.4f}  val loss {val_loss:.4f}")

        yield on_epoch


def _told_at_times(console: Console, epochs: int, of: str) -> OnEpoch:
    """Print a line after each tenth of the epochs."""
    started, told = time.monotonic(), 0

    def on_epoch(epoch: int, loss: float, val_loss: float) -> None:
        nonlocal told
        if epoch * TOLD // epochs > told:
            told = epoch * TOLD // epochs
            seconds = time.monotonic() - started
            line = f"{of}epoch {epoch}/{epochs}  loss {loss:.4f}  val loss {val_loss:.4f}  {seconds:.0f} s"
            console.print(line, markup=False, soft_wrap=True)

    return on_epoch


@contextmanager
def stop_on_interrupt(console: Console) -> Iterator[Event]:
    """The first Ctrl-C sets the event, the second interrupts as usual."""
    stop = Event()

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("stopping: the best weights so far are kept (Ctrl-C again to give up)")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
