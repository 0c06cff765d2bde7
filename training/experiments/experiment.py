"""What an experiment is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """How an experiment is run.

    Attributes:
        quick: small enough for a test: the claim stays, sizes and epochs shrink where it allows.
        seed: of data, weights and shuffling.
        directory: empty; for artifacts, weights and tables that the experiment writes.
    """

    quick: bool
    seed: int
    directory: Path

    def pick(self, quick: T, full: T) -> T:
        """The value for this way of running."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """One claim.

    Attributes:
        claim: what is said to be so.
        expected: the result that makes it so.
        measured: the result of this run.
        holds: whether it is so.
    """

    claim: str
    expected: str
    measured: str
    holds: bool


@dataclass
class Findings:
    """What an experiment found: its rows, and pictures by name (matplotlib figures)."""

    rows: list[Row] = field(default_factory=list)
    pictures: dict[str, Any] = field(default_factory=dict)

    def at_least(self, claim: str, least: float, measured: float, form: str = ".3f") -> None:
        """Claim that a number is not smaller than another."""
        self.rows.append(Row(claim, f">= {least:{form}}", f"{measured:{form}}", bool(measured >= least)))

    def at_most(self, claim: str, most: float, measured: float, form: str = ".3f") -> None:
        """Claim that a number is not larger than another."""
        self.rows.append(Row(claim, f"<= {most:{form}}", f"{measured:{form}}", bool(measured <= most)))

    def equal(self, claim: str, expected: object, measured: object) -> None:
        """Claim that two values are the same."""
        self.rows.append(Row(claim, str(expected), str(measured), expected == measured))

    def tell(self, claim: str, measured: str) -> None:
        """Report what was measured, where nothing is claimed of it."""
        self.rows.append(Row(claim, "", measured, True))


@dataclass(frozen=True)
class Experiment:
    """One item of the catalog.

    Attributes:
        name: its number, such as `3b`.
        title: what it shows, in a few words.
        run: does it. Imports Keras when it is called, so that the list costs nothing.
    """

    name: str
    title: str
    run: Callable[[Setup], Findings]
