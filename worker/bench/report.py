"""The bench's result: medians over the rounds, ratios taken within each, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table

from worker.bench.contestant import Lap


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

    def text(self, form: str) -> str:
        """`median (min..max)`, each in the given format."""
        return f"{self.median:{form}} ({self.min:{form}}..{self.max:{form}})"


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
        """The rows for a terminal."""
        table = Table(title="median of the rounds (smallest..largest)", title_justify="left")
        table.add_column("contestant")
        for heading in ("samples/s", "CPU us/sample", "ratio to passthrough", "first output s", "memory MiB"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(
                row.name,
                row.samples_per_s.text(",.0f"),
                row.cpu_us.text(",.2f"),
                "" if row.ratio is None else row.ratio.text(".4f" if row.ratio.median < 0.01 else ".2f"),
                f"{row.first_output_s:.1f}",
                f"{row.rss_bytes / 2**20:,.0f}",
            )
        return table

    def words(self) -> list[str]:
        """What stands below the table."""
        lines = [", ".join(f"{name} {value}" for name, value in self.conditions.items())]
        if self.speedup is not None:
            lines.append(f"cellstream answers {self.speedup.text(',.0f')} times the batch-of-one loop's samples")
        if self.largest_difference is not None:
            lines.append(
                f"largest difference between the two in {self.compared:,} probabilities: {self.largest_difference:.1e}"
            )
        return lines
