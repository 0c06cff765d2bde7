"""A poll's samples as a few blocks of shapes that are compiled, and their outputs back in order.

Streams are ranked by how many samples they have, deepest first, so that the streams active at any depth are a
prefix. A block covers T depths of B neighbouring streams; which (T, B) is chosen by what it costs against the
samples that it advances. The model gives the same bits for every shape, so the plan never shows in the output.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Shape = tuple[int, int]

# What a timestep of a block costs before the first stream of it, in timesteps of one stream: between 5 and 6 for LSTMs
# of 32-16-8 and of 256 units.
TIMESTEP_COST = 6.0


class BlockModel(Protocol):
    """What stepping needs of a model; `worker.model.StepModel` is the real one."""

    outputs: int

    @property
    def call_cost(self) -> float:
        """What a call costs before it computes anything, in timesteps of one stream in a wide block."""

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
    for block in plan(active, model.buckets, model.call_cost):
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


def plan(active: Sequence[int], buckets: Sequence[Shape], call_cost: float) -> Iterator[Block]:
    """Cover every depth of every stream once, each stream's depths in order.

    A region of depths and streams is begun with the block that advances most samples for what it costs, which leaves
    two smaller regions; or it is covered by one block, padding and all, where that costs less than all of those do.

    Args:
        active: streams that have a sample at depth 0, 1, ..., never increasing.
        buckets: shapes to choose from.
        call_cost: what a block costs beside its timesteps, see `BlockModel`.
    """
    costs = {shape: call_cost + shape[0] * (TIMESTEP_COST + shape[1]) for shape in buckets}
    regions, samples = [_Region(0, 0, active[0])], _Samples(active)
    for region in regions:  # which grows meanwhile
        _begin(region, samples, costs)
        regions += region.rest
    for region in reversed(regions):  # what is left of a region comes behind it
        region.cost = costs[region.shape] + sum(rest.cost for rest in region.rest)
        if region.cover is not None and costs[region.cover] < region.cost:
            region.shape, region.cost, region.rest = region.cover, costs[region.cover], ()
    pending = [regions[0]]
    while pending:
        region = pending.pop()
        yield Block(region.shape, region.level, region.low, min(region.high, region.low + region.shape[1]))
        pending += region.rest


@dataclass(slots=True)
class _Region:
    """All depths from `level` on of the streams `low <= s < high`: the block that it begins with, and what is left."""

    level: int
    low: int
    high: int
    shape: Shape = (0, 0)
    rest: Sequence[_Region] = ()
    cost: float = 0.0
    cover: Shape | None = None


class _Samples:
    """How many samples a block advances."""

    def __init__(self, active: Sequence[int]) -> None:
        self.active = active
        self._falling = [-streams for streams in active]  # ascending, for bisection
        self._before = [0, *accumulate(active)]

    def within(self, level: int, stop: int, low: int, end: int) -> int:
        """Of the depths `level <= k < stop` and the streams `low <= s < end`."""
        stop = min(stop, len(self.active))
        full = max(level, min(stop, bisect_right(self._falling, -end)))
        some = max(full, min(stop, bisect_left(self._falling, -low)))
        return (full - level) * (end - low) + self._before[some] - self._before[full] - (some - full) * low


def _begin(region: _Region, samples: _Samples, costs: dict[Shape, float]) -> None:
    """The block that advances most samples for its cost, and the cheapest one that covers the region, if any does."""
    level, low, high = region.level, region.low, region.high
    left = len(samples.active) - level
    useful = [shape for shape in costs if shape[0] < 4 * left]  # of what is deeper yet, most is padding
    region.cover = min((s for s in useful if s[0] >= left and s[1] >= high - low), key=costs.__getitem__, default=None)
    if region.cover is not None:
        useful = [shape for shape in useful if costs[shape] <= costs[region.cover]]
    region.shape = max(useful, key=lambda s: samples.within(level, level + s[0], low, min(high, low + s[1])) / costs[s])
    end, deeper = min(high, low + region.shape[1]), level + region.shape[0]
    rest = []
    if end < high:
        rest.append(_Region(level, end, high))
    if deeper < len(samples.active) and samples.active[deeper] > low:
        rest.append(_Region(deeper, low, min(end, samples.active[deeper])))
    region.rest = rest


def _active(counts: NDArray[np.int64]) -> list[int]:
    """Streams with more than k samples, for k = 0, 1, ..."""
    at_most = np.cumsum(np.bincount(counts))
    streams: list[int] = (len(counts) - at_most[:-1]).tolist()
    return streams
