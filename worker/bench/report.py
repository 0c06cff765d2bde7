"""The bench's result: medians over the rounds, ratios taken within each, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from worker.bench.contestant import Lap

HEADINGS = ("contestant", "samples/s", "from..to", "CPU us", "ratio", "first s", "MiB")


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of a few rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One contestant.

    Attributes:
        samples_per_s: over its laps.
        cpu_us: processor microseconds of its process per sample.
        ratio: its rate by the passthrough's of the same round; None without one.
        first_output_s: process start to the first committed output, with a backlog waiting.
        rss_bytes: largest resident memory seen after a lap.
    """

    name: str
    samples_per_s: Spread
    cpu_us: Spread
    ratio: Spread | None
    first_output_s: float
    rss_bytes: int
    laps: tuple[Lap, ...]

    def cells(self) -> tuple[str, ...]:
        """What stands below `HEADINGS`."""
        rate = self.samples_per_s
        return (
            self.name,
            f"{rate.median:,.0f}",
            f"{rate.min:,.0f}..{rate.max:,.0f}",
            f"{self.cpu_us.median:,.2f}",
            "" if self.ratio is None else f"{self.ratio.median:.3g}",
            f"{self.first_output_s:.1f}",
            f"{self.rss_bytes / 2**20:,.0f}",
        )


@dataclass(frozen=True)
class Report:
    """All rows, and what they were measured under.

    Attributes:
        conditions: names and values that a reader needs to compare two reports.
        speedup: cellstream's rate by the batch-of-one loop's of the same round; None without either.
        largest_difference: between cellstream's and the batch-of-one loop's probabilities of the same samples.
        compared: how many of them.
    """

    conditions: Mapping[str, Any]
    rows: tuple[Row, ...]
    speedup: Spread | None
    largest_difference: float | None
    compared: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; `laps` hold samples, seconds and cpu_s as measured."""
        return asdict(self)

    def table(self) -> Table:
        """The rows for a terminal of 80 columns or more."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(HEADINGS[0], no_wrap=True)
        for heading in HEADINGS[1:]:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row.cells())
        return table

    def markdown(self) -> str:
        """The rows for a page, and what stands below them."""
        lines = [HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in self.rows)]
        return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", *self.words()])

    def words(self) -> list[str]:
        """What stands below the table."""
        lines = [
            "medians of the rounds; CPU us: of the process, per sample; ratio: to the passthrough of the same round;",
            "first s: from the start of the process to its first committed output; MiB: resident memory",
            ", ".join(f"{name} {value}" for name, value in self.conditions.items()),
        ]
        if self.speedup is not None:
            speedup = f"{self.speedup.median:,.0f} ({self.speedup.min:,.0f}..{self.speedup.max:,.0f})"
            lines.append(f"cellstream answers {speedup} times the batch-of-one loop's samples")
        if self.largest_difference is not None:
            lines.append(
                f"largest difference between the two in {self.compared:,} probabilities: {self.largest_difference:.1e}"
            )
        return lines
