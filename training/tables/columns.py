"""Which columns of a table mean what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from worker.artifact import name_problems


@dataclass(frozen=True)
class Columns:
    """Names of columns.

    Attributes:
        stream_id: whose row it is.
        label: what is to be learned: a class, of the sequence or of the timestep.
        features: what the model sees, in the order in which samples will bring them.
        order: to sort a sequence by: a number or a time; None where rows are in order already.
        sequence: which of its stream's sequences a row belongs to; None where a stream is one sequence.
    """

    stream_id: str
    label: str
    features: tuple[str, ...]
    order: str | None = None
    sequence: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is used, once."""
        named = (self.stream_id, self.label, *self.features, self.order, self.sequence)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def problems(self, available: Sequence[str]) -> list[str]:
        """What is wrong with the names, given those of the table."""
        found = [f"there is no column {name!r}{_hint(name, available)}" for name in self.all if name not in available]
        for role, name in (("label", self.label), ("stream ID", self.stream_id)):
            if name in self.features:
                found.append(f"column {name!r} is the {role} and cannot be a feature: the model would only read it off")
        # The classes are checked with the labels; any good name stands in for them here.
        return found + name_problems(self.features, ("class",))


def _hint(name: str, available: Sequence[str]) -> str:
    near = get_close_matches(name, available, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, available[:12]))}"
