"""What a network is to say after every timestep, and how much each of its answers counts in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import Sequences, labels_along
from training.networks import Recipe
from training.padding import MASK_VALUE, pad

Floats = NDArray[np.float32]


class Targets:
    """Targets of sequences, and the arrays that a batch of them becomes.

    Attributes:
        rows: for each sequence `(its timesteps, outputs)` float32: the second class, or one-hot of several.
        weighted: whether batches have weights: where no mask takes padded timesteps out of the loss, weights of 0 do;
            and where classes are weighted.

    Args:
        part: the sequences.
        recipe: of the network.
        padded: whether the network is made for sequences of different lengths.
        weights: of the classes, `(classes,)`; None where all count the same.
    """

    def __init__(self, part: Sequences, recipe: Recipe, *, padded: bool, weights: Floats | None = None) -> None:
        classes = len(part.classes)
        one_hot = np.eye(classes, dtype=np.float32)[:, 1:] if classes == 2 else np.eye(classes, dtype=np.float32)
        self.rows = tuple(one_hot[own] for own in labels_along(part))
        self.weighted = (padded and not recipe.masks) or weights is not None
        self._fill = MASK_VALUE if recipe.masks else 0.0
        self._of_class = np.ones(classes, np.float32) if weights is None else weights

    def arrays(self, inputs: Sequence[Floats], rows: Sequence[NDArray[Any]] | None = None) -> tuple[Floats, ...]:
        """Some of the sequences as `fit` takes them, padded to the longest.

        Args:
            inputs: each `(its timesteps, features)`.
            rows: their targets, `(its timesteps, outputs)`; those of all sequences if left out.

        Returns:
            Inputs `(n, longest, features)`, targets `(n, longest, outputs)`, and if `weighted` `(n, longest)`.
        """
        rows = self.rows if rows is None else rows
        x, y = pad(inputs, value=self._fill), pad(rows, value=0.0)
        if not self.weighted:
            return x, y
        numbers = [own[:, 0].astype(np.int64) if own.shape[1] == 1 else own.argmax(axis=1) for own in rows]
        return x, y, pad([self._of_class[own][:, None] for own in numbers], value=0.0)[..., 0]


def class_weights(part: Sequences) -> Floats:
    """Weights with which every class that occurs counts the same in all, and a timestep 1 on average, `(classes,)`."""
    counts = np.bincount(np.concatenate(labels_along(part)), minlength=len(part.classes))
    there = np.maximum(counts, 1) * np.count_nonzero(counts)
    return np.where(counts > 0, counts.sum() / there, 1.0).astype(np.float32)
