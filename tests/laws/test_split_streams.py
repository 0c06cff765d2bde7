"""A topic that is not partitioned by stream ID is noticed, and one that is never blamed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import structlog
from hypothesis import given
from hypothesis import strategies as st

from worker.metrics import Metrics
from worker.observer import WARN_EVERY_S, Observer
from worker.pages.health import Health
from worker.state.partition import PartitionState
from worker.state.split_streams import MOST_LOOKED_AT, split_streams

streams = st.sets(st.integers(0, 30).map(lambda number: b"s%d" % number))


@given(st.dictionaries(st.integers(0, 5), streams))
def test_exactly_the_streams_of_several_partitions_are_found(homes: dict[int, set[bytes]]) -> None:
    indexes = {partition: dict.fromkeys(ids, 0) for partition, ids in homes.items()}
    everywhere = {s: [p for p in sorted(homes) if s in homes[p]] for s in set().union(*homes.values())}
    assert split_streams(indexes) == {stream_id: found for stream_id, found in everywhere.items() if len(found) > 1}


def test_the_look_ups_do_not_grow_with_the_streams() -> None:
    class Counting(dict[bytes, int]):
        looked_up = 0

        def __contains__(self, key: object) -> bool:
            Counting.looked_up += 1
            return super().__contains__(key)

    indexes = {p: Counting.fromkeys((b"%d-%d" % (p, i) for i in range(5_000)), 0) for p in range(8)}
    assert split_streams(indexes) == {}
    assert Counting.looked_up <= MOST_LOOKED_AT * len(indexes)


def test_split_streams_are_a_metric_and_a_warning_now_and_then() -> None:
    now = [0.0]
    metrics = Metrics()
    observer = Observer(metrics, Health(), clock=lambda: now[0])
    states = [PartitionState(partition, 4, np.zeros(1, np.float32), 0) for partition in range(2)]
    for state in states:
        for stream_id in (b"both", b"own-%d" % state.partition):
            state.allocate(stream_id)
    worker = SimpleNamespace(
        states=dict(enumerate(states)),
        source=SimpleNamespace(joined=True, log_end=lambda partition: None),
        restores=SimpleNamespace(waiting=set()),
        keeper=SimpleNamespace(results=list),
    )
    with structlog.testing.capture_logs() as logs:
        for _ in range(round(WARN_EVERY_S) + 2):
            observer.turn(worker)  # type: ignore[arg-type]
            now[0] += 1
    said = [entry for entry in logs if entry["event"] == "streams_in_several_partitions"]
    assert [(entry["streams"], entry["example"], entry["partitions"]) for entry in said] == [(1, b"both", [0, 1])] * 2
    assert metrics.registry.get_sample_value("cellstream_split_streams") == 1
    worker.states.popitem()
    observer.turn(worker)  # type: ignore[arg-type]
    assert metrics.registry.get_sample_value("cellstream_split_streams") == 0
