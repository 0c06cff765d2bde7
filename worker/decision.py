"""The decision rule: when a model's answers are sure enough to act on, once per sequence.

A rule has a limit for each class and each region of elapsed time. It fires at the first timestep at which the most
probable class reaches its limit. `worker.model.deciding` makes it a part of the step, so that what it remembers of a
stream (how many timesteps, and whether it has fired) is a part of the stream's state: checkpointed, replayed and reset
with it. A deciding model's answers have one column more: 0, or where the rule fires the number of the class from 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from worker.encoding.encoder import Encoder

MAX_REGIONS = 4096
# A float32 counts to 2**24 and then stands still.
MAX_TIMESTEP = 1 << 24


@dataclass(frozen=True)
class DecisionRule:
    """What an artifact's manifest says of decisions.

    Attributes:
        classes: what can be decided: the model's classes; for one sigmoid both, the positive one second.
        from_timesteps: where each region begins; ascending from 0. The last region does not end.
        limits: for each region, the least probability of each class at which it is decided; above 1 for never.
        goal: what the limits were chosen for, for people.
    """

    classes: tuple[str, ...]
    from_timesteps: tuple[int, ...]
    limits: tuple[tuple[float, ...], ...]
    goal: str = ""

    def problems(self, outputs: tuple[str, ...]) -> list[str]:
        """What is wrong with the rule for a model with these classes; empty when nothing is."""
        problems = []
        fits = self.classes == outputs if len(outputs) > 1 else self.classes[1:] == outputs and len(self.classes) == 2
        if not fits:
            problems.append("decision: its classes are not those of the model")
        begins = self.from_timesteps
        ascending = all(one < other for one, other in pairwise(begins))
        if not (1 <= len(begins) <= MAX_REGIONS and begins[0] == 0 and ascending and begins[-1] < MAX_TIMESTEP):
            problems.append("decision: its regions do not ascend from timestep 0")
        widths = {len(row) for row in self.limits}
        if len(self.limits) != len(begins) or widths != {len(self.classes)}:
            problems.append("decision: it has not a limit for each class in each region")
        if not all(math.isfinite(limit) and limit >= 0 for row in self.limits for limit in row):
            problems.append("decision: a limit is no number from 0 on")
        return problems


def add_decisions(
    encoder: Encoder,
    values: list[bytes],
    fired: NDArray[np.float32],
    timesteps: NDArray[np.int64],
    firsts: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Say in the events of samples at which the rule fires what was decided.

    Args:
        encoder: has written the events.
        values: the events; those that decide are replaced.
        fired: `(samples,)`, the deciding column of the model's answers.
        timesteps: `(samples,)`.
        firsts: the first sample of each event, ascending, where an event may have several; None for one each.

    Returns:
        The timesteps of the decisions.
    """
    at = np.flatnonzero(fired)
    events = at if firsts is None else np.searchsorted(firsts, at, side="right") - 1
    decided = timesteps[at]
    classes = fired[at].astype(np.int64) - 1
    for event, number, timestep in zip(events.tolist(), classes.tolist(), decided.tolist(), strict=True):
        values[event] = encoder.decided(values[event], number, None if firsts is None else timestep)
    return decided
