"""A poll's samples as a few blocks of shapes that are compiled, and their outputs back in order.

Streams are ranked by how many samples they have, deepest first, so that the streams active at any depth are a
prefix. A block covers T depths of B neighbouring streams; which (T, B) is chosen by what it costs against the
samples that it advances. The model gives the same bits for every shape, so the plan never shows in the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Shape = tuple[int, int]

# Cost of a call and of a timestep of one stream, relative to each other: in the running worker, whose own work cools
# the caches, a call of the 32-16-8 LSTM took 330 us and a cell 0.5; 1000 took 3 to 10 % off the step against 500.
CALL_COST = 1000.0
CELL_COST = 1.0


class BlockModel(Protocol):
    """What stepping needs of a model; `worker.model.StepModel` is the real one."""

    outputs: int

    @property
    def buckets(self) -> Sequence[Shape]:
        """The `(T, B)` shapes that are ready."""

    def run_block(self, inputs: Floats, mask: Flags, reset: Flags, states: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        """Advance a block, see `worker.model`."""


class Block(NamedTuple):
    """Depths `level <= k < level + shape[0]` of the ranked streams `low <= s < high`."""

    shape: Shape
    level: int
    low: int
    high: int


def step_streams(
    model: BlockModel, inputs: Floats, begins: Flags, counts: NDArray[np.int64], states: NDArray[Any]
) -> tuple[Floats, int]:
    """Advance streams by all their samples of a poll.

    Args:
        model: what runs a block.
        inputs: `(samples, features)` float32, one stream's samples together and in order.
        begins: `(samples,)`, True where the sample starts from the initial state.
        counts: `(streams,)` samples of each stream, all at least 1, in the order of `inputs`.
        states: `(streams, state_size)`; replaced in place by the states after the last sample.

    Returns:
        Outputs `(samples, classes)` float32 in the order of `inputs`, and the timesteps run, padding included.
    """
    rank = np.argsort(-counts, kind="stable")
    depths = counts[rank]
    heads = (np.cumsum(counts) - counts)[rank]
    active = _active(counts)
    ranked = states[rank]
    outputs = np.empty((len(inputs), model.outputs), np.float32)
    cells = 0
    for block in plan(active, model.buckets):
        timesteps, batch = block.shape
        low, high = block.low, block.high
        levels = np.arange(block.level, min(block.level + timesteps, len(active)))[:, None]
        real = levels < depths[low:high]  # (levels, streams)
        here = (heads[low:high] + levels)[real]
        x = np.zeros((timesteps, batch, inputs.shape[1]), np.float32)
        mask = np.zeros(block.shape, np.bool_)
        reset = np.zeros(block.shape, np.bool_)
        padded = np.zeros((batch, states.shape[1]), states.dtype)
        x[: len(levels), : high - low][real] = inputs[here]
        mask[: len(levels), : high - low] = real
        reset[: len(levels), : high - low][real] = begins[here]
        padded[: high - low] = ranked[low:high]
        results, after = model.run_block(x, mask, reset, padded)
        ranked[low:high] = after[: high - low]
        outputs[here] = results[: len(levels), : high - low][real]
        cells += timesteps * batch
    states[rank] = ranked
    return outputs, cells


def plan(active: Sequence[int], buckets: Sequence[Shape]) -> Iterator[Block]:
    """Cover every depth of every stream once, each stream's depths in order.

    Args:
        active: streams that have a sample at depth 0, 1, ..., never increasing.
        buckets: shapes to choose from.
    """
    pending = [(0, 0, active[0])]
    while pending:
        level, low, high = pending.pop()
        left = len(active) - level
        useful = [bucket for bucket in buckets if bucket[0] < 4 * left]  # of what is deeper yet, most is padding
        shape = max(useful, key=lambda bucket: _worth(bucket, active, level, low, high))
        end = min(high, low + shape[1])
        yield Block(shape, level, low, end)
        if end < high:
            pending.append((level, end, high))
        deeper = level + shape[0]
        if deeper < len(active) and active[deeper] > low:
            pending.append((deeper, low, min(end, active[deeper])))


def _worth(shape: Shape, active: Sequence[int], level: int, low: int, high: int) -> float:
    """Samples advanced per cost."""
    timesteps, batch = shape
    end = min(high, low + batch)
    samples = sum(max(0, min(end, streams) - low) for streams in active[level : level + timesteps])
    return samples / (CALL_COST + CELL_COST * timesteps * batch)


def _active(counts: NDArray[np.int64]) -> list[int]:
    """Streams with more than k samples, for k = 0, 1, ..."""
    at_most = np.cumsum(np.bincount(counts))
    streams: list[int] = (len(counts) - at_most[:-1]).tolist()
    return streams
