"""Batches to learn from: mixed anew in every epoch, and each only as long as its longest sequence.

What an epoch sees depends on the seed and on the number of the epoch alone, so that a training that goes on after a
kill sees what it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.augmentation import changed

if TYPE_CHECKING:
    from training.networks import Recipe, Scaling
    from training.targets import Targets

# Sequences of so many batches are drawn by chance and then put in the order of their lengths: a batch has sequences of
# similar length, and is another one in every epoch.
BATCHES_OF_A_DRAW = 8


def mixed(lengths: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Indices of the sequences of each batch of an epoch; every sequence is in one.

    Args:
        lengths: `(n,)`.
        size: of a batch; one may be smaller.
        rng: decides.
    """
    order = rng.permutation(len(lengths))
    draw = size * BATCHES_OF_A_DRAW
    draws = [order[begin : begin + draw] for begin in range(0, len(order), draw)]
    by_length = np.concatenate([own[np.argsort(lengths[own], kind="stable")] for own in draws])
    members = [by_length[begin : begin + size] for begin in range(0, len(order), size)]
    return [members[place] for place in rng.permutation(len(members))]


class Batches:
    """The batches of an epoch; iterating again gives the same ones, until `epoch` is set to another number.

    Attributes:
        epoch: from 0.

    Args:
        inputs: each `(its timesteps, features)`.
        targets: what to say of them.
        scaling: of the training part.
        recipe: how far sequences are changed, and the size of a batch.
        seed: of the order and of the changes.
    """

    def __init__(
        self, inputs: tuple[NDArray[np.float32], ...], targets: Targets, scaling: Scaling, recipe: Recipe, seed: int
    ) -> None:
        self.epoch = 0
        self._inputs, self._targets, self._scaling, self._recipe, self._seed = inputs, targets, scaling, recipe, seed
        self._lengths = np.array([len(sequence) for sequence in inputs], np.int64)

    def __len__(self) -> int:
        return math.ceil(len(self._inputs) / self._recipe.batch_size)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], ...]]:
        rng = np.random.default_rng((self._seed, self.epoch))
        for members in mixed(self._lengths, self._recipe.batch_size, rng):
            yield self._batch(members)

    def dataset(self) -> Any:
        """As `fit` takes them: a `tf.data.Dataset` that is iterated anew in every epoch."""
        import tensorflow as tf

        one = self._batch(np.zeros(1, np.int64))
        signature = tuple(tf.TensorSpec((None, None, *array.shape[2:]), array.dtype) for array in one)
        batches = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=signature)
        return batches.apply(tf.data.experimental.assert_cardinality(len(self)))

    def _batch(self, members: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Some sequences, changed as this epoch changes them; see `Targets.arrays`."""
        rows = []
        for member in members.tolist():
            sequence, own = self._inputs[member], self._targets.rows[member]
            if self._recipe.augments:
                rng = np.random.default_rng((self._seed, self.epoch, member))
                sequence, own = changed(sequence, own, self._scaling, self._recipe, rng)
            rows.append((sequence, own))
        return self._targets.arrays([sequence for sequence, _ in rows], [own for _, own in rows])
