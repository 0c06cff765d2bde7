"""A row of the table of aims: what was aimed at, what was measured, and whether that was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from worker.bench.report import Spread


@dataclass(frozen=True)
class Aim:
    """A bound that a median is held to.

    Attributes:
        limit: the bound.
        at_least: whether it is a lower one.
        form: how its numbers are written.
    """

    limit: float
    at_least: bool
    form: str = "{:.2f}"

    def reached(self, value: float) -> bool:
        """Whether a median keeps it."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.form.format(self.limit)}"


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes:
        what: is compared or measured.
        aim: for the median.
        values: one for each round.
        made_of: the absolute numbers behind it, in words.
        curves: for pictures: name -> numbers.
        beside: more for a page, in Markdown.
    """

    what: str
    aim: Aim
    values: tuple[float, ...]
    made_of: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    beside: str = ""

    @property
    def reached(self) -> bool:
        """Whether the median keeps the aim."""
        return self.aim.reached(Spread.of(self.values).median)

    @property
    def spread(self) -> str:
        """Median, smallest and largest."""
        return spread(self.values, self.aim.form)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "what": self.what,
            "aim": str(self.aim),
            "limit": self.aim.limit,
            "at_least": self.aim.at_least,
            "values": list(self.values),
            "reached": self.reached,
            "made_of": self.made_of,
        }


def spread(values: Sequence[float], form: str) -> str:
    """`median (smallest..largest)`, or the one value."""
    found = Spread.of(values)
    numbers = [form.format(value) for value in (found.median, found.min, found.max)]
    return numbers[0] if len(values) == 1 else f"{numbers[0]} ({numbers[1]}..{numbers[2]})"


def table(rows: Sequence[Measured]) -> Table:
    """The rows for a terminal."""
    found = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    found.add_column("what")
    for heading in ("aim", "measured", "reached"):
        found.add_column(heading, no_wrap=True)
    found.add_column("made of")
    for row in rows:
        found.add_row(row.what, str(row.aim), row.spread, "yes" if row.reached else "no", row.made_of)
    return found


def markdown(rows: Sequence[Measured]) -> str:
    """The rows for a page."""
    lines = ["| what | aim | measured | reached | made of |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.aim} | {row.spread} | {'yes' if row.reached else '**no**'} | {row.made_of} |"
        for row in rows
    ]
    return "\n".join(lines)
