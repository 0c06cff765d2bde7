"""What can be said of the way to an answer, beside whether it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True)
class Trajectories:
    """Probabilities of class 1 along sequences of one length.

    Attributes:
        probabilities: `(n, timesteps)` in [0, 1].
        labels: `(n,)`, 0 or 1.
    """

    probabilities: NDArray[np.floating[Any]]
    labels: NDArray[np.int64]

    @property
    def total_variation(self) -> float:
        """Sum of all steps up and down along a sequence, mean over sequences."""
        return float(np.abs(np.diff(self.probabilities, axis=1)).sum(axis=1).mean())

    @property
    def worst_jump(self) -> float:
        """Largest change from one timestep to the next, mean over sequences."""
        return float(np.abs(np.diff(self.probabilities, axis=1)).max(axis=1).mean())

    @property
    def drops(self) -> float:
        """How often a trajectory falls below 0.5 again after it has reached it, mean over sequences."""
        above = self.probabilities >= 0.5
        return float((above[:, :-1] & ~above[:, 1:]).sum(axis=1).mean())

    @property
    def calibration(self) -> float:
        """Expected calibration error over all timesteps: |share of class 1 - probability|, by tenths of probability."""
        told = self.probabilities.reshape(-1).astype(np.float64)
        true = np.repeat(self.labels, self.probabilities.shape[1])
        bins = np.minimum((told * BINS).astype(np.int64), BINS - 1)
        weights = np.bincount(bins, minlength=BINS)
        gaps = np.abs(np.bincount(bins, true - told, BINS)) / np.maximum(weights, 1)
        return float((gaps * weights).sum() / weights.sum())
