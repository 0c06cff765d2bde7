"""When an answer is sure enough: the limits of a decision rule, from trajectories of sequences that were not learned.

Early and right pull against each other. `early_rule` looks for the limits with the best harmonic mean of accuracy and
1 - earliness, where earliness is the share of a sequence that had been seen; `careful_rule` for those that keep false
alarms rare. A sequence that is never sure enough counts with its last answer, as one that took all of its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.trajectories import Trajectories
from worker.decision import DecisionRule
from worker.errors import UsageError

REGIONS = 4
CANDIDATES = 60
# A limit of its own for a class or a region has to earn so much harmonic mean: with few sequences each is a temptation.
WORTH = 0.005
OWN = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """How a rule does on labelled trajectories.

    Attributes:
        accuracy: share of sequences that were decided rightly.
        earliness: mean share of a sequence that had been seen.
        undecided: share of sequences in which the rule never fired.
    """

    accuracy: float
    earliness: float
    undecided: float

    @property
    def harmonic_mean(self) -> float:
        """Of accuracy and 1 - earliness; 0 when both are."""
        early = 1 - self.earliness
        return 2 * self.accuracy * early / max(self.accuracy + early, 1e-12)

    def facts(self) -> dict[str, float]:
        """All of it, for the manifest."""
        return {**vars(self), "harmonic_mean": self.harmonic_mean}


def rule_for(trajectories: Trajectories, goal: str) -> DecisionRule:
    """The rule for a goal as `cellstream train --decision` takes it.

    Args:
        trajectories: out of fold, as smooth and calibrated as the model answers; each with one label.
        goal: `early`, or the share of false alarms that is allowed, such as `0.05`.

    Raises:
        UsageError: neither, or labels change within sequences.
    """
    require_one_label(trajectories.labels)
    return early_rule(trajectories) if goal == "early" else careful_rule(trajectories, rate_of(goal))


def require_one_label(labels: Sequence[Whole]) -> None:
    """Refuse sequences whose label changes, before anything is trained for them.

    Raises:
        UsageError: there is no one decision to make about each.
    """
    if any((own != own[0]).any() for own in labels):
        raise UsageError("--decision: labels change within sequences, so there is no one decision to make about each")


def rate_of(goal: str) -> float:
    """The share of false alarms that a goal allows.

    Raises:
        UsageError: it is no number between 0 and 1.
    """
    try:
        rate = float(goal)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise UsageError(f"--decision {goal}: expected `early`, or a share of false alarms between 0 and 1, as 0.05")
    return rate


def judge(rule: DecisionRule, trajectories: Trajectories) -> Judged:
    """What a rule comes to."""
    columns = _Columns(trajectories)
    limits = np.array(rule.limits, np.float64)[region_of(rule.from_timesteps, columns.longest)]
    return columns.judge(limits)


def early_rule(trajectories: Trajectories) -> DecisionRule:
    """The limits with the best harmonic mean: one for all; then of each region its own; then a shift for each class."""
    columns, classes = _Columns(trajectories), len(trajectories.classes)
    begins = tuple(sorted({round(i * columns.longest / REGIONS) for i in range(REGIONS)}))
    region = region_of(begins, columns.longest)

    def limits(numbers: Floats) -> Floats:
        return np.clip(numbers[: len(begins), None] + numbers[len(begins) :], 0, 1)  # (regions, classes)

    def worth(numbers: Floats) -> float:
        return columns.judge(limits(numbers)[region]).harmonic_mean

    candidates = np.unique(np.quantile(columns.sure[columns.real], np.linspace(0, 1, CANDIDATES)))
    alike = [np.append(np.full(len(begins), limit), np.zeros(classes)) for limit in candidates]
    numbers = max(alike, key=worth)
    for _ in range(2):
        for i in range(len(numbers)):
            tried = [_with(numbers, i, value) for value in (candidates if i < len(begins) else OWN)]
            best = max(tried, key=worth)
            if worth(best) > worth(numbers) + WORTH:
                numbers = best
    return _rule(trajectories.classes, begins, limits(numbers), "harmonic mean of accuracy and 1 - earliness")


def careful_rule(trajectories: Trajectories, rate: float) -> DecisionRule:
    """For each class the lowest limit that at most a share of the other classes' sequences would ever reach.

    Args:
        trajectories: as `rule_for`.
        rate: the share, between 0 and 1.
    """
    columns = _Columns(trajectories)
    limits = []
    for number in range(len(trajectories.classes)):
        reached = np.where(columns.winner == number, columns.sure, 0.0)[columns.label != number].max(
            axis=1, initial=0.0
        )
        worst_first = np.sort(reached)[::-1]
        allowed = int(rate * len(reached))
        # Just above what one alarm too many would take. Where there were none, half of the probability is asked for.
        last = float(np.nextafter(np.float32(worst_first[allowed]), np.float32(2))) if allowed < len(reached) else 0.0
        limits.append(max(last, 0.5))
    return _rule(trajectories.classes, (0,), np.array([limits]), f"at most {rate:g} false alarms of each class")


def region_of(begins: tuple[int, ...], timesteps: int) -> Whole:
    """The number of each timestep's region, `(timesteps,)`."""
    return np.searchsorted(np.array(begins[1:], np.int64), np.arange(timesteps), side="right").astype(np.int64)


class _Columns:
    """Trajectories as arrays `(sequences, longest)`: the most probable class, how probable, and which are real."""

    def __init__(self, trajectories: Trajectories) -> None:
        said = trajectories.by_class()
        self.lengths = np.array([len(own) for own in said])
        self.longest = int(self.lengths.max())
        self.real = np.arange(self.longest) < self.lengths[:, None]
        self.winner = np.zeros(self.real.shape, np.int64)
        self.sure = np.full(self.real.shape, -1.0)
        self.winner[self.real] = np.concatenate([own.argmax(axis=1) for own in said])
        self.sure[self.real] = np.concatenate([own.max(axis=1) for own in said])
        self.label = np.array([labels[0] for labels in trajectories.labels])

    def judge(self, limits: Floats) -> Judged:
        """Decide by limits `(longest, classes)`."""
        fires = self.sure >= limits[np.arange(self.longest), self.winner]
        fired = fires.any(axis=1)
        at = np.where(fired, fires.argmax(axis=1), self.lengths - 1)
        right = self.winner[np.arange(len(at)), at] == self.label
        earliness = (at + 1) / self.lengths
        return Judged(float(right.mean()), float(earliness.mean()), float(1 - fired.mean()))


def _with(numbers: Floats, place: int, value: float) -> Floats:
    changed = numbers.copy()
    changed[place] = value
    return changed


def _rule(classes: tuple[str, ...], begins: tuple[int, ...], limits: Floats, goal: str) -> DecisionRule:
    return DecisionRule(classes, begins, tuple(tuple(map(float, row)) for row in limits), goal)
