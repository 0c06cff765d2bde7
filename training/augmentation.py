"""Sequences as they might have been recorded, too: scaled, moved, and played at a changing speed.

Every epoch sees other changes of the same sequences. Jitter is not here: it is the noise layer of the network
(`Recipe.noise`). All sizes are shares: of a feature's standard deviation over the training part, or of the speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from training.networks import Recipe, Scaling

Floats = NDArray[np.float32]

# The speed is drawn at so many places of a sequence and runs straight between them.
KNOTS = 5


def changed(
    sequence: Floats,
    targets: NDArray[Any],
    scaling: Scaling,
    recipe: Recipe,
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[Any]]:
    """One sequence as it might have been, of the same length, and what to say of it.

    Args:
        sequence: `(timesteps, features)`.
        targets: `(timesteps, ...)`; each stays with the sample that it belongs to.
        scaling: mean and variance of each feature.
        recipe: `scale`: standard deviation of a factor for each feature, about its mean; `offset`: of a shift of each
            feature, in its own standard deviations; `warp`: of the logarithm of the speed.
        rng: decides everything.
    """
    timesteps, features = sequence.shape
    if recipe.warp > 0 and timesteps > 1:
        places = played(timesteps, recipe.warp, rng)
        at = np.arange(timesteps)
        sequence = np.stack([np.interp(places, at, column) for column in sequence.T], axis=1).astype(np.float32)
        targets = targets[np.rint(places).astype(np.int64)]
    factor = 1.0 + recipe.scale * rng.standard_normal(features)
    shift = recipe.offset * np.sqrt(scaling.variance) * rng.standard_normal(features)
    moved = scaling.mean + (sequence - scaling.mean) * factor + shift
    return moved.astype(np.float32), targets


def played(timesteps: int, warp: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a sequence is read when its speed changes: `(timesteps,)`, ascending, from its first to its last sample."""
    speed = np.exp(warp * np.interp(np.linspace(0, KNOTS - 1, timesteps), np.arange(KNOTS), rng.standard_normal(KNOTS)))
    places = np.concatenate(([0.0], np.cumsum((speed[1:] + speed[:-1]) / 2)))
    return places * (timesteps - 1) / places[-1]
