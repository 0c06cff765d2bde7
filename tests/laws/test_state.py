"""PartitionState: rows are reused, memory is taken where it is written, the limit is a limit."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import FatalFault
from worker.state.partition import PartitionState

INITIAL = np.zeros(3, np.float32)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_every_live_stream_owns_one_row_and_no_row_is_lost(actions: list[tuple[bool, int]]) -> None:
    state, live = PartitionState(0, 5, INITIAL, 0), set()
    for begin, number in actions:
        stream_id = b"%d" % number
        if begin and stream_id not in live and len(live) < 5:
            state.timesteps[state.allocate(stream_id)] = number
            live.add(stream_id)
        elif not begin and stream_id in live:
            state.free(state.index[stream_id])
            live.discard(stream_id)
        assert set(state.index) == live
        assert sorted(state.index.values()) == sorted(set(state.index.values()))
        assert all(state.stream_ids[row] == stream_id for stream_id, row in state.index.items())
        assert all(state.timesteps[row] == int(stream_id) for stream_id, row in state.index.items())
        assert max(state.index.values(), default=0) < 5


def test_a_limit_of_ten_million_streams_takes_no_memory_before_they_come() -> None:
    before = psutil.Process().memory_info().rss
    state = PartitionState(0, 10_000_000, np.zeros(112, np.float32), 0)  # 4.5 GB of address space
    for number in range(1000):
        state.states[state.allocate(b"%d" % number)] = 1.0
    assert psutil.Process().memory_info().rss - before < 50 * 2**20
    assert state.size_bytes == 1000 * 112 * 4


def test_more_streams_than_there_is_address_space_for_is_told_with_the_remedy() -> None:
    with pytest.raises(FatalFault, match="max_streams_per_partition"):
        PartitionState(0, 2**45, INITIAL, 0)


def test_eviction_takes_the_sixteenth_whose_last_sample_is_oldest_in_the_log() -> None:
    state = PartitionState(0, 32, INITIAL, 0)
    for number in range(32):
        state.offsets[state.allocate(b"%d" % number)] = (number * 7) % 32
    assert [int(state.offsets[row]) for row in state.least_recent()] == [0, 1]


def test_streams_silent_in_the_partitions_time_are_found_in_log_order_and_others_never() -> None:
    state = PartitionState(0, 8, INITIAL, 0)
    for number, heard in enumerate((100, 300, 50, 299)):
        row = state.allocate(b"%d" % number)
        state.times[row], state.offsets[row] = heard, 10 - number
    state.touched(state.times[state.rows()])
    state.stream_time = 400
    assert [state.stream_ids[row] for row in state.expired(100)] == [b"3", b"2", b"0"]
    assert len(state.expired(1000)) == 0
