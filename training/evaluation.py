"""How good the answers are along the way: accuracy after a share of each sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.padding import pad

SHARES = (0.25, 0.5, 0.75, 1.0)


def timestep_at(share: float, length: int) -> int:
    """Index of the timestep that completes a share of a sequence: of 10 timesteps, 25 % are complete at index 2."""
    return max(1, math.ceil(share * length)) - 1


def decide(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The class with the largest probability; of a single probability, class 1 from 0.5 on.

    Args:
        probabilities: `(..., classes)`, or `(..., 1)` of a binary model.
    """
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] >= 0.5).astype(np.int64)
    return probabilities.argmax(axis=-1).astype(np.int64)


def accuracy_by_share(
    probabilities: Sequence[NDArray[np.floating[Any]]],
    labels: NDArray[np.int64] | Sequence[NDArray[np.int64]],
    shares: Sequence[float] = SHARES,
) -> dict[str, float]:
    """Share of sequences answered rightly at 25, 50, 75 and 100 % of their length.

    Args:
        probabilities: for each sequence `(its timesteps, outputs)`.
        labels: `(n,)` indices of classes; or for each sequence `(its timesteps,)`.
        shares: of the length, each in (0, 1].

    Returns:
        `{"25%": ..., "50%": ..., "75%": ..., "100%": ...}`; empty where there are no sequences.
    """
    accuracy: dict[str, float] = {}
    if not len(probabilities):
        return accuracy
    for share in shares:
        reached = [timestep_at(share, len(answers)) for answers in probabilities]
        decided = [int(decide(answers[t])) for answers, t in zip(probabilities, reached, strict=True)]
        true = [own if np.ndim(own) == 0 else own[t] for own, t in zip(labels, reached, strict=True)]
        accuracy[f"{share:.0%}"] = float(np.mean(np.array(decided) == np.array(true)))
    return accuracy


def predict(model: Any, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """What Keras says after every timestep: for each sequence `(its timesteps, outputs)` float32.

    Sequences of different lengths need a model with the Masking layer of `training.padding`.
    """
    if not len(inputs):
        return []
    answers = model.predict(pad(inputs), batch_size=256, verbose=0)  # (n, longest, outputs)
    return [row[: len(sequence)] for row, sequence in zip(answers, inputs, strict=True)]
