"""What an artifact says of labelled sequences, after every sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.evaluate.matching import Matched
from training.evaluation import decide, timestep_at
from worker.errors import UsageError
from worker.streaming import Decision, StreamingModel

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Moment:
    """Answers that are judged together: all at one share of their sequences, or all that there are.

    Attributes:
        probabilities: `(n, classes)`, rows sum to 1.
        decided: `(n,)`, the class that has the largest.
        labels: `(n,)`, the right one.
    """

    probabilities: Floats
    decided: Numbers
    labels: Numbers


@dataclass(frozen=True)
class Answers:
    """Probabilities and labels along sequences.

    Attributes:
        classes: their names.
        stream_ids: of the sequences.
        probabilities: for each sequence `(its timesteps, classes)` float64, rows sum to 1.
        decided: for each `(its timesteps,)`, the class with the largest probability.
        labels: for each `(its timesteps,)`, the right class.
        per_timestep: labels may change in a sequence.
        decisions: for each what the artifact's rule decided, or None where it never fired; None without a rule.
    """

    classes: tuple[str, ...]
    stream_ids: tuple[str, ...]
    probabilities: tuple[Floats, ...]
    decided: tuple[Numbers, ...]
    labels: tuple[Numbers, ...]
    per_timestep: bool = False
    decisions: tuple[Decision | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @cached_property
    def lengths(self) -> Numbers:
        """Timesteps of each sequence, `(n,)`."""
        return np.array([len(labels) for labels in self.labels], np.int64)

    def at(self, share: float) -> Moment:
        """The answers when a share of each sequence is complete."""
        reached = [timestep_at(share, length) for length in self.lengths]
        return Moment(_at(self.probabilities, reached), _at(self.decided, reached), _at(self.labels, reached))

    @cached_property
    def everywhere(self) -> Moment:
        """The answers at all timesteps of all sequences."""
        probabilities, decided = np.concatenate(self.probabilities), np.concatenate(self.decided)
        return Moment(probabilities, decided, np.concatenate(self.labels))

    @property
    def winning(self) -> list[Floats]:
        """For each sequence, the way of the probability that is the largest in the end, `(its timesteps,)`."""
        return [path[:, own[-1]] for path, own in zip(self.probabilities, self.decided, strict=True)]


def answer(model: StreamingModel, matched: Matched) -> Answers:
    """Send sequences through the worker's engine, each from the initial state.

    Raises:
        UsageError: the answers are those of several outputs, side by side.
    """
    told, decisions = model.decide_all(matched.sequences.inputs)
    answers = answers_of(
        told,
        matched.labels,
        matched.classes,
        matched.sequences.stream_ids,
        matched.sequences.timestep_labels is not None,
    )
    return answers if model.manifest.decision is None else replace(answers, decisions=tuple(decisions))


def answers_of(
    told: list[NDArray[np.float32]],
    labels: tuple[Numbers, ...],
    classes: tuple[str, ...],
    stream_ids: tuple[str, ...],
    per_timestep: bool = False,
) -> Answers:
    """Answers as they are judged: with a probability for each class.

    Args:
        told: for each sequence `(its timesteps, outputs)`; a single output is the probability of the second class.
        labels: for each `(its timesteps,)`.
        classes: their names, two for a single output.
        stream_ids: of the sequences.
        per_timestep: labels may change in a sequence.

    Raises:
        UsageError: probabilities do not sum to 1.
    """
    probabilities = []
    for path in told:
        wide = path.astype(np.float64)
        wide = np.concatenate([1.0 - wide, wide], axis=1) if path.shape[1] == 1 else wide
        sums = wide.sum(axis=1, keepdims=True)
        if (np.abs(sums - 1.0) > 1e-3).any():
            raise UsageError(
                f"the probabilities of the artifact's classes sum to {sums.flat[np.abs(sums - 1.0).argmax()]:.3g}, not "
                "to 1: it has several outputs, and their labels are not in one column. Export a model for each"
            )
        probabilities.append(wide / sums)
    return Answers(
        classes, stream_ids, tuple(probabilities), tuple(decide(path) for path in told), labels, per_timestep
    )


def _at(part: tuple[NDArray[Kind], ...], reached: list[int]) -> NDArray[Kind]:
    return np.stack([own[t] for own, t in zip(part, reached, strict=True)])
