"""How a poll is cut into blocks: every sample once, each stream's in order, whatever shapes there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.blocks import plan

actives = st.lists(st.integers(1, 40), min_size=1, max_size=30).map(lambda counts: sorted(counts, reverse=True))
shapes = st.tuples(st.sampled_from([2, 4, 16]), st.sampled_from([1, 2, 8, 64]))


@given(actives, st.lists(shapes, max_size=5), st.sampled_from([0.0, 1.0, 10.0, 1000.0]))
def test_a_plan_covers_every_sample_once_and_each_streams_in_order(
    active: list[int], more: list[tuple[int, int]], call_cost: float
) -> None:
    covered: dict[int, list[int]] = {stream: [] for stream in range(active[0])}
    for block in plan(active, [(1, 4), *more], call_cost):
        assert block.high - block.low <= block.shape[1]
        for level in range(block.level, min(block.level + block.shape[0], len(active))):
            for stream in range(block.low, min(block.high, active[level])):
                covered[stream].append(level)
    depths = {stream: sum(streams > stream for streams in active) for stream in covered}
    assert covered == {stream: list(range(depths[stream])) for stream in covered}


@given(actives, st.lists(shapes, max_size=5))
def test_where_calls_are_dear_one_block_does_what_one_block_can_do(
    active: list[int], more: list[tuple[int, int]]
) -> None:
    buckets = [(1, 4), *more]
    covers = any(shape[0] >= len(active) and shape[1] >= active[0] and shape[0] < 4 * len(active) for shape in buckets)
    blocks = list(plan(active, buckets, 1e9))
    assert (len(blocks) == 1) == covers


def test_where_calls_are_cheap_hardly_any_timestep_is_padding() -> None:
    blocks = list(plan([300, 5], [(1, 64), (1, 512), (2, 64), (2, 512)], 1.0))
    assert sum(block.shape[0] * block.shape[1] for block in blocks) <= 300 + 5 + 3 * 64
