"""Sequences of different lengths as one array, and labels for every timestep of it.

Padding goes to the end, so that no real timestep comes after a padded one. It is `MASK_VALUE` in every feature, and a
Masking layer with that value is the model's *first* layer, before the scaling:

- The mask has to be found on the raw sample. After `(x - mean) / deviation` the padding would be another number in
  each feature, and no single value could be recognised.
- The usual 0 is no mark: a sensor at rest says 0 in every feature, and that timestep would vanish from the sequence, in
  training and in the stream. -1e9 is exact in float32 and is no measurement.

Layer by layer this streams exactly: the mask of a timestep, and its scaling, depend on that sample alone.
Sequences of one length need no padding, and their model has no Masking layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.errors import UsageError

MASK_VALUE = -1e9


def pad(
    inputs: Sequence[NDArray[np.float32]], timesteps: int | None = None, value: float = MASK_VALUE
) -> NDArray[np.float32]:
    """Stack sequences, each padded at its end.

    Args:
        inputs: each `(its timesteps, features)` float32.
        timesteps: length of the result; by default that of the longest.
        value: what to pad with.

    Returns:
        `(n, timesteps, features)` float32.
    """
    longest = max(len(sequence) for sequence in inputs)
    padded = np.full((len(inputs), timesteps or longest, inputs[0].shape[1]), value, np.float32)
    for row, sequence in zip(padded, inputs, strict=True):
        row[: len(sequence)] = sequence
    return padded


def padded_batches(
    inputs: Sequence[NDArray[np.float32]], size: int
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Batches of sequences of similar length, each padded to its own longest only.

    Args:
        inputs: each `(its timesteps, features)` float32.
        size: sequences in a batch; the last one may have fewer.

    Returns:
        For each batch, shortest first, the indices of its sequences, `(n,)`, and `(n, longest, features)` float32.
    """
    by_length = np.argsort([len(sequence) for sequence in inputs], kind="stable")
    members = [by_length[begin : begin + size] for begin in range(0, len(inputs), size)]
    return [(indices, pad([inputs[i] for i in indices])) for indices in members]


def repeat_labels(labels: NDArray[np.int64], timesteps: int) -> NDArray[np.int64]:
    """One label for every timestep: `(n,)` -> `(n, timesteps, 1)`."""
    return np.repeat(labels[:, None, None], timesteps, axis=1)  # (n, timesteps, 1)


def check_labels(labels: NDArray[np.int64], inputs: NDArray[np.float32]) -> None:
    """See that labels have the shape that one label per timestep takes.

    Args:
        labels: wanted as `(n, timesteps, 1)`.
        inputs: `(n, timesteps, features)`.

    Raises:
        UsageError: any other shape; says which is wanted and how to make it. Keras would broadcast some of them against
            the predictions and train on nonsense without a word.
    """
    wanted = (*inputs.shape[:2], 1)
    if labels.shape == wanted:
        return
    if labels.shape == wanted[:2]:
        remedy = "add the last axis: labels[..., None]"
    elif labels.shape in (wanted[:1], (wanted[0], 1)):
        remedy = f"repeat each label: numpy.repeat(labels.reshape(-1, 1, 1), {wanted[1]}, axis=1)"
    else:
        remedy = "give every timestep of every sequence its label"
    raise UsageError(f"labels have shape {labels.shape}; one label per timestep is {wanted}: {remedy}")
