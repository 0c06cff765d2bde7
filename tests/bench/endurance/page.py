"""docs/reliability.md: the table of a long run between its markers, and its picture."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.page import DOCS, save

PAGE = DOCS / "reliability.md"
BEGIN, END = "<!-- endurance: begin -->", "<!-- endurance: end -->"
ROWS = 12


def write(run: Mapping[str, Any], page: Path = PAGE, day: str | None = None) -> list[Path]:
    """Put the table and the picture of a run in the place of the former ones.

    Args:
        run: an `Endured` as plain values.
        page: has both markers; the picture goes beside it.
        day: of the run; None is today.

    Returns:
        The files that were written.
    """
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{page}: expected the markers {BEGIN} and {END}"
    picture = draw(run["windows"], page.with_name("reliability-endurance.svg"))
    minutes = run["windows"][-1]["end_s"] / 60
    lines = [
        f"Measured {day or time.strftime('%Y-%m-%d')}: {run['sent']:,} samples in {minutes:.0f} minutes at "
        f"{run['rate']:,.0f}/s, of {run['greatest']:,.0f}/s that the worker reached at most; {run['samples']:,} were "
        f"answered. Of the {run['expected']:,} samples of the partition that was read, {run['events']:,} events came, "
        f"{run['wrong']:,} out of order. The publisher's own delay, 99th percentile: {run['late_ms']:.0f} ms. Memory "
        f"grew by {growth(run['windows'], 'rss_bytes') / 1e6:+.1f} MB an hour over the last three quarters (least "
        "squares).",
        "",
        *table(run["windows"]),
        "",
        f"![memory, latency and live streams over time]({picture.name})",
    ]
    page.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))
    return [page, picture]


def table(windows: Sequence[Mapping[str, float]]) -> list[str]:
    """A line for each twelfth of the run: medians of its windows, and the worst p99.9."""
    lines = ["| minutes | memory MB | descriptors | live streams | cores | p50 ms | p99 ms | worst p99.9 ms | lag |"]
    lines += ["|---" * 9 + "|"]
    digits = 0 if windows[-1]["end_s"] >= 120 * ROWS else 1
    for part in np.array_split(np.arange(len(windows)), min(ROWS, len(windows))):
        some = [windows[i] for i in part]
        middle = {name: float(np.median([window[name] for window in some])) for name in some[0]}
        lines.append(
            f"| {some[-1]['end_s'] / 60:.{digits}f} | {middle['rss_bytes'] / 1e6:,.0f} | {middle['open_fds']:.0f} | "
            f"{middle['live_streams']:,.0f} | {middle['cores']:.2f} | {middle['p50_ms']:.0f} | "
            f"{middle['p99_ms']:.0f} | {max(window['p999_ms'] for window in some):.0f} | {middle['lag']:,.0f} |"
        )
    return lines


def growth(windows: Sequence[Mapping[str, float]], name: str) -> float:
    """Per hour, of what comes after the first quarter."""
    later = windows[len(windows) // 4 :]
    if len(later) < 2:
        return 0.0
    return float(np.polyfit([window["end_s"] / 3600 for window in later], [window[name] for window in later], 1)[0])


def draw(windows: Sequence[Mapping[str, float]], path: Path) -> Path:
    """Memory, latency and live streams, one below the other, over minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.4), layout="constrained")
    memory, latency, streams = figure.subplots(3, sharex=True)
    minutes = [window["end_s"] / 60 for window in windows]
    memory.plot(minutes, [window["rss_bytes"] / 1e6 for window in windows])
    memory.set_ylabel("memory, MB")
    for name, words in (("p999_ms", "p99.9"), ("p99_ms", "p99"), ("p50_ms", "p50")):
        latency.plot(minutes, [window[name] for window in windows], label=words)
    latency.set_ylabel("latency, ms")
    latency.legend(loc="upper right")
    streams.plot(minutes, [window["live_streams"] for window in windows])
    streams.set_ylabel("live streams")
    streams.set_xlabel("minutes")
    for axes in (memory, latency, streams):
        axes.set_ylim(bottom=0)
    return save(figure, path)
