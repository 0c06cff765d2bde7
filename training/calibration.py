"""Temperatures by elapsed time: how sure of itself a network may be, learned from what it said of unseen sequences.

Guo et al., On Calibration of Modern Neural Networks (2017), for each region of a sequence: early on, networks that
learned a label at every timestep tend to be too sure, at the end they may not be sure enough.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.trajectories import Trajectories

REGIONS = 6
# A region with fewer answers takes the temperature of the one before it.
FEWEST = 30
TEMPERATURES = np.geomspace(0.25, 8.0, 101)


def fit_temperatures(trajectories: Trajectories, regions: int = REGIONS) -> NDArray[np.float64]:
    """A temperature for each timestep of the longest sequence, `(longest,)`.

    Each region has the temperature with the smallest log loss; between the middles of regions they run straight, so
    that no answer jumps because a region ends.

    Args:
        trajectories: out of fold, as smooth as they will be.
        regions: how many of equal length, if there are so many timesteps.
    """
    longest = trajectories.longest
    edges = np.unique(np.linspace(0, longest, regions + 1).astype(int))
    said = trajectories.by_class()
    middles, fitted = [], [1.0]
    for begin, end in pairwise(edges.tolist()):
        answers = np.concatenate([own[begin:end] for own in said])  # (answers, classes)
        labels = np.concatenate([own[begin:end] for own in trajectories.labels])
        middles.append((begin + end - 1) / 2)
        fitted.append(_best(answers, labels) if len(labels) >= FEWEST else fitted[-1])
    return np.exp(np.interp(np.arange(longest), middles, np.log(fitted[1:])))


def _best(answers: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature with the smallest log loss."""
    logits = np.log(np.clip(answers, 1e-6, 1 - 1e-6))
    own = logits[np.arange(len(labels)), labels]
    losses = []
    for temperature in TEMPERATURES:
        cold = logits / temperature
        highest = cold.max(axis=1)
        total = highest + np.log(np.exp(cold - highest[:, None]).sum(axis=1))
        losses.append(float((total - own / temperature).mean()))
    return float(TEMPERATURES[int(np.argmin(losses))])


def calibration_error(trajectories: Trajectories, bins: int = 10) -> float:
    """Expected calibration error of the most probable class over all timesteps: |accuracy - confidence|, by bins."""
    answers = np.concatenate(trajectories.by_class())
    right = answers.argmax(axis=1) == np.concatenate(trajectories.labels)
    confidence = answers.max(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, right - confidence, bins)
    return float(np.abs(gaps).sum() / len(right))
