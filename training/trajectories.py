"""What was said of every sequence, timestep by timestep, by a network that had not learned it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME = "trajectories.npz"


@dataclass(frozen=True)
class Trajectories:
    """Answers along labelled sequences.

    Attributes:
        answers: for each sequence `(its timesteps, outputs)`, probabilities.
        labels: for each sequence `(its timesteps,)` int64, indices into `classes`.
        classes: their names; of two, the one output is the probability of the second.
        stream_ids: whose each sequence is.
    """

    answers: tuple[NDArray[np.float64], ...]
    labels: tuple[NDArray[np.int64], ...]
    classes: tuple[str, ...]
    stream_ids: tuple[str, ...]

    @property
    def longest(self) -> int:
        """Timesteps of the longest."""
        return max(len(answers) for answers in self.answers)

    def by_class(self) -> list[NDArray[np.float64]]:
        """For each sequence `(its timesteps, classes)`: a column for each class, also where there are two."""
        return [np.hstack([1 - said, said]) if said.shape[1] == 1 else said for said in self.answers]

    def smoothed(self, share: float) -> Trajectories:
        """What `SmoothingCell` makes of them; see `worker.model.layers.answers`."""
        return replace(self, answers=tuple(_smooth(said, share) for said in self.answers))

    def calibrated(self, temperatures: Sequence[float] | NDArray[np.float64]) -> Trajectories:
        """What `Calibration` makes of them."""
        table = np.asarray(temperatures, np.float64)
        answers = []
        for said in self.by_class():
            logits = np.log(np.clip(said, 1e-6, 1 - 1e-6))
            logits /= table[np.minimum(np.arange(len(said)), len(table) - 1)][:, None]
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares = powers / powers.sum(axis=1, keepdims=True)
            answers.append(shares[:, 1:] if len(self.classes) == 2 else shares)
        return replace(self, answers=tuple(answers))

    def write(self, directory: Path) -> None:
        """Write `trajectories.npz`, whole or not at all: answers and labels one behind the other, and the lengths."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            probabilities=np.concatenate(self.answers).astype(np.float32),
            labels=np.concatenate(self.labels),
            lengths=np.array([len(answers) for answers in self.answers]),
            stream_ids=np.array(self.stream_ids),
            classes=np.array(self.classes),
        )
        partial = directory / f".{NAME}.{os.getpid()}"
        partial.write_bytes(content.getvalue())
        partial.replace(directory / NAME)


def read_trajectories(directory: Path) -> Trajectories:
    """What `Trajectories.write` wrote."""
    with np.load(directory / NAME, allow_pickle=False) as stored:
        cuts = np.cumsum(stored["lengths"])[:-1]
        return Trajectories(
            tuple(np.split(stored["probabilities"].astype(np.float64), cuts)),
            tuple(np.split(stored["labels"], cuts)),
            tuple(stored["classes"].tolist()),
            tuple(stored["stream_ids"].tolist()),
        )


def _smooth(said: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    smooth = np.empty(said.shape, np.float64)
    total, weight = np.zeros(said.shape[1]), 0.0
    for t, answer in enumerate(said):
        total, weight = share * total + (1 - share) * answer, share * weight + 1 - share
        smooth[t] = total / weight
    return smooth
