"""The proof that a shape may be used: bit for bit the rows of the narrowest one, stepped one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.model.executable import Block, Flags, Floats

DEPTH, NARROWEST = 4, 64

# Ordinary values, values that saturate, and values so small that a flush to zero would show.
SCALES = (1.0, 30.0, 1e-39)


def agrees(
    block: Block, reference: Block, width: int, features: int, initial: NDArray[Any], depth: int = DEPTH
) -> bool:
    """Run the same random streams through a width and, elsewhere in other company, through the reference.

    Args:
        block: the function of the width; see `StepModel.run_block`.
        reference: the function of the narrowest width.
        width: a multiple of `NARROWEST`.
        features: width of a sample.
        initial: a state, `(state_size,)`, for its size and type.
        depth: timesteps of the block.

    Returns:
        Whether all answers at unmasked timesteps, and all states, are the same bits.
    """
    rng = np.random.default_rng(64)
    return all(_same(block, reference, (depth, width), features, initial, scale, rng) for scale in SCALES)


def side_by_side(block: Block, width: int) -> Block:
    """Blocks of a width that divides `NARROWEST`, as one of `NARROWEST`."""

    def run(inputs: Floats, mask: Flags, reset: Flags, states: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        cuts = [slice(start, start + width) for start in range(0, NARROWEST, width)]
        done = [block(inputs[:, cut], mask[:, cut], reset[:, cut], states[cut]) for cut in cuts]
        return np.concatenate([answers for answers, _ in done], 1), np.concatenate([moved for _, moved in done])

    return run


def _same(
    block: Block,
    reference: Block,
    shape: tuple[int, int],
    features: int,
    initial: NDArray[Any],
    scale: float,
    rng: np.random.Generator,
) -> bool:
    """One draw of `agrees`."""
    inputs = (scale * rng.standard_normal((*shape, features))).astype(np.float32)
    states = (scale * rng.standard_normal((shape[1], len(initial)))).astype(initial.dtype)
    mask, reset = rng.random(shape) < 0.9, rng.random(shape) < 0.1
    answers, moved = block(inputs, mask, reset, states)
    for rows in rng.permutation(shape[1]).reshape(-1, NARROWEST):  # other neighbours and other places than in the block
        state = states[rows]
        for t in range(shape[0]):
            answer, state = reference(inputs[t : t + 1, rows], mask[t : t + 1, rows], reset[t : t + 1, rows], state)
            if not _equal_bits(answers[t, rows][mask[t, rows]], answer[0][mask[t, rows]]):
                return False
        if not _equal_bits(moved[rows], state):
            return False
    return True


def _equal_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Equality of bits: -0.0 is not 0.0, and a NaN equals itself."""
    return np.array_equal(np.ascontiguousarray(one).view(np.uint8), np.ascontiguousarray(other).view(np.uint8))
