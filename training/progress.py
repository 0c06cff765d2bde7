"""How a training shows itself in the terminal, and how Ctrl-C ends it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from training.fitting import OnEpoch


@contextmanager
def epoch_bar(console: Console, epochs: int) -> Iterator[OnEpoch | None]:
    """One line that tells epoch, losses and time as training goes; nothing at all when nobody looks at it."""
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=epochs)

        def on_epoch(epoch: int, loss: float, val_loss: float) -> None:
            progress.update(task, completed=epoch, description=f"loss {loss:.4f}  val loss {val_loss:.4f}")

        yield on_epoch


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
