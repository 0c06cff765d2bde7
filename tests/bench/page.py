"""docs/performance.md: the table between its markers, and the pictures beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.bench.aims import Measured, markdown
from worker.bench.report import Spread

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
PICTURES = {"rates": "samples/s, exactly once", "percentiles": "latency at half load"}


def write(
    measured: Sequence[Measured],
    conditions: Mapping[str, Any],
    page: Path = PAGE,
    day: str | None = None,
    failed: Sequence[str] = (),
) -> list[Path]:
    """Put the table and the pictures of a run in the place of the former ones.

    Args:
        measured: the rows.
        conditions: of the run, see `Stage.conditions`.
        page: has both markers; pictures go beside it.
        day: of the run; None is today.
        failed: rows that could not be measured.

    Returns:
        The files that were written.
    """
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{page}: expected the markers {BEGIN} and {END}"
    pictures = list(draw(measured, page.parent))
    lines = [f"Measured {day or time.strftime('%Y-%m-%d')}: {', '.join(f'{k} {v}' for k, v in conditions.items())}."]
    if failed:
        lines[0] += f" Not measured: {', '.join(failed)}."
    lines += ["", markdown(measured), "", *(f"{row.beside}\n" for row in measured if row.beside)]
    lines += [f"![{PICTURES[path.stem.removeprefix('performance-')]}]({path.name})" for path in pictures]
    page.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))
    return [page, *pictures]


def draw(measured: Sequence[Measured], directory: Path) -> list[Path]:
    """The pictures for which there are numbers."""
    rates: dict[str, Sequence[float]] = {}
    latency: Mapping[str, Sequence[float]] = {}
    for row in measured:
        if "percentiles" in row.curves:
            latency = row.curves
        else:
            rates |= row.curves
    drawn = []
    if rates:
        drawn.append(_rates(rates, directory / "performance-rates.svg"))
    if latency:
        drawn.append(_percentiles(latency, directory / "performance-percentiles.svg"))
    return drawn


def _rates(rates: Mapping[str, Sequence[float]], path: Path) -> Path:
    """A bar for each contestant, from its slowest to its fastest lap a line, on a logarithmic axis."""
    figure, axes = _figure(0.6 + 0.4 * len(rates))
    spreads = {name: Spread.of(values) for name, values in sorted(rates.items(), key=lambda item: max(item[1]))}
    for place, found in enumerate(spreads.values()):
        axes.barh(place, found.median, color="tab:blue", height=0.6)
        axes.plot([found.min, found.max], [place, place], color="black")
        axes.text(found.max * 1.1, place, f"{found.median:,.0f}", va="center")
    axes.set_yticks(range(len(spreads)), list(spreads))
    axes.set_xscale("log")
    axes.set_xlim(right=10 * max(found.max for found in spreads.values()))
    axes.set_xlabel("samples/s")
    return save(figure, path)


def _percentiles(curves: Mapping[str, Sequence[float]], path: Path) -> Path:
    """Latency over percentile, the scale stretched towards 100."""
    figure, axes = _figure(3.0)
    places = [1 / (1 - percentile / 100) for percentile in curves["percentiles"]]
    for name, values in curves.items():
        if name != "percentiles":
            axes.plot(places, values, marker=".", label=name)
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{percentile:g}" for percentile in curves["percentiles"]], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.legend()
    return save(figure, path)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Any, path: Path) -> Path:
    """The same numbers give the same file."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "cellstream", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
    return path
