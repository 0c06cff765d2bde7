"""How a replay looks: a live table of streams on a terminal, a few lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from training.demo_ledger import Ledger, Report
from training.evaluation import SHARES

REDRAWS_PER_S = 10
WIDTH = 28
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,-=+*#"
SURROUNDINGS = 7  # lines of the display that are no stream

Show = Callable[[Ledger], None]


@contextmanager
def display(console: Console) -> Iterator[Show]:
    """A function to be called as often as one likes while samples go in and probabilities come out."""
    if not console.is_terminal:
        yield _lines(console)
        return
    blocks = ASCII_BLOCKS if console.options.ascii_only else BLOCKS
    with Live(console=console, auto_refresh=False) as live:
        drawn_s = 0.0

        def show(ledger: Ledger) -> None:
            nonlocal drawn_s
            now_s = time.monotonic()
            if now_s - drawn_s >= 1 / REDRAWS_PER_S or ledger.complete:
                live.update(table(ledger, blocks, max(1, console.height - SURROUNDINGS)), refresh=True)
                drawn_s = now_s

        yield show


def table(ledger: Ledger, blocks: str, rows: int) -> Group:
    """The streams: what each is, how its true class's probability has moved, and what is most likely now.

    Args:
        ledger: the books.
        blocks: eight characters of rising height.
        rows: most streams shown.
    """
    streams = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    streams.add_column("stream", no_wrap=True)
    streams.add_column("is", no_wrap=True)
    streams.add_column("its probability over time", no_wrap=True, min_width=WIDTH)
    streams.add_column("most likely now", no_wrap=True, min_width=16)
    shown = list(zip(ledger.stream_ids, ledger.received, ledger.labels, strict=True))[:rows]
    for stream_id, answers, label in shown:
        known = answers[~np.isnan(answers[:, 0])]
        now = Text("")
        if len(known):
            best = int(known[-1].argmax())
            now = Text(f"{known[-1][best]:.2f} {ledger.classes[best]}", style="green" if best == label else "red")
        line = sparkline(answers[:, label], WIDTH, blocks)
        streams.add_row(Text(stream_id), Text(ledger.classes[label]), Text(line, style="cyan"), now)
    hidden = len(ledger.stream_ids) - len(shown)
    more = [Text(f"and {hidden} more streams; the window is too low for them", style="dim")] if hidden else []
    return Group(Text(_head(ledger)), streams, *more)


def sparkline(values: NDArray[np.float64], width: int, blocks: str) -> str:
    """Values in [0, 1] as a line of `width` characters; each stands for the mean of its share, NaN is a blank."""
    line = ""
    for part in np.array_split(values, min(width, len(values))):
        known = part[~np.isnan(part)]
        line += blocks[min(len(blocks) - 1, int(known.mean() * len(blocks)))] if len(known) else " "
    return line.ljust(width)


def tell(console: Console, report: Report) -> None:
    """The end of the replay, in numbers."""
    accuracy = ", ".join(f"{value:.2f} at {share}" for share, value in report.accuracy.items())
    sign = "within" if report.largest_difference <= report.limit else "BEYOND"
    rows = (
        ("samples in", f"{report.samples:,}"),
        ("probabilities out", f"{report.probabilities:,} ({report.missing:,} missing, {report.doubled:,} doubled)"),
        ("accuracy", f"{accuracy} of each sequence"),
        (
            "latency",
            f"p50 {report.latency_p50_ms:.0f} ms, p99 {report.latency_p99_ms:.0f} ms, sample in to probability out",
        ),
        (
            "equal to Keras",
            f"largest difference {report.largest_difference:.1e}, {sign} {report.limit:.2g}, "
            "each against the sequence so far",
        ),
    )
    for name, value in rows:
        console.print(Text(f"{name:<18} {value}"), soft_wrap=True)


def _lines(console: Console) -> Show:
    """One line whenever another quarter of the probabilities is there."""
    left = list(SHARES)

    def show(ledger: Ledger) -> None:
        while left and ledger.probabilities >= left[0] * ledger.total:
            console.print(Text(f"{left.pop(0):>4.0%}  {_head(ledger)}"), soft_wrap=True)

    return show


def _head(ledger: Ledger) -> str:
    return (
        f"{ledger.samples:,} samples in, {ledger.probabilities:,} probabilities out; "
        f"last answer right: {ledger.right_now()}/{len(ledger.stream_ids)} streams"
    )
