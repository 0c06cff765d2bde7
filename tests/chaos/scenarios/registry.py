"""Scenarios by name: what `make chaos SCENARIO=NAME` plays, and the tests and the soak choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.scenarios.context import Context

Play = Callable[["Context"], None]


@dataclass(frozen=True)
class Scenario:
    """A fault, or a series of them, on a deployment of its own, with what is expected.

    Attributes:
        name: unique; a kind and a variant are separated by a colon.
        play: does it; raises `AssertionError` when something else happens than is expected.
        words: what is done and what is expected.
        long: takes more than half a minute.
    """

    name: str
    play: Play
    words: str
    long: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, *, long: bool = False) -> Callable[[Play], Play]:
    """Register a function of a context under a name; its docstring is what people read."""

    def register(play: Play) -> Play:
        add(name, play, inspect.getdoc(play) or "", long)
        return play

    return register


def add(name: str, play: Play, words: str, long: bool = False) -> None:
    """Register a variant of a scenario."""
    assert name not in SCENARIOS, name
    assert words, f"scenario {name} does not say what it does"
    SCENARIOS[name] = Scenario(name, play, words, long)


class Skipped(Exception):
    """This machine cannot play the scenario; the message says why."""
