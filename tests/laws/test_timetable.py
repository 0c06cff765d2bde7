"""Laws of when checkpoints are due, with a store that fails for as long as the test says."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.recovery.timetable import FIRST_PAUSE_S, LONGEST_PAUSE_S, Timetable

COMMIT_S = 0.125  # added up without rounding


def attempts(timetable: Timetable, seconds: float, down_until_s: float, records: int = 10) -> list[float]:
    """When checkpoints are taken by a worker that commits so many records eight times a second."""
    taken, offset, now_s = [], 0, 0.0
    timetable.begin(0, None, now_s)
    while now_s < seconds:
        now_s += COMMIT_S
        offset += records
        if timetable.is_due(0, offset, now_s):
            timetable.taken(0, offset, now_s)
            taken.append(now_s)
            if now_s < down_until_s:
                timetable.failed(0, now_s)
            else:
                timetable.written(0)
    return taken


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_store_that_is_down_is_tried_after_pauses_that_double_and_not_at_every_commit() -> None:
    taken = attempts(Timetable(1e9, 10), 400, down_until_s=1e9)
    assert gaps(taken) == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_store_that_is_back_is_written_to_at_every_count_again() -> None:
    taken = attempts(Timetable(1e9, 10), 30, down_until_s=5)
    assert gaps(taken)[:3] == [1, 2, 4]
    assert set(gaps(taken)[3:]) == {COMMIT_S}


def test_next_failure_after_a_success_pauses_shortly_again() -> None:
    timetable = Timetable(1e9, 1)
    for _ in range(5):
        timetable.failed(0, 0.0)
    timetable.written(0)
    timetable.failed(0, 100.0)
    assert not timetable.is_due(0, 10, 100.0 + FIRST_PAUSE_S / 2)
    assert timetable.is_due(0, 10, 100.0 + FIRST_PAUSE_S)


@given(
    interval_s=st.floats(0.25, 1000),
    interval_records=st.none() | st.integers(1, 1000),
    down_s=st.floats(0, 100),
)
def test_no_two_attempts_are_closer_than_a_commit_and_none_is_later_than_asked_for(
    interval_s: float, interval_records: int | None, down_s: float
) -> None:
    taken = attempts(Timetable(interval_s, interval_records), 300, down_s)
    latest = interval_s if interval_records is None else min(interval_s, max(LONGEST_PAUSE_S, interval_records / 80))
    assert all(COMMIT_S <= gap <= latest + COMMIT_S for gap in gaps([0.0, *taken]))


def test_partitions_that_come_together_are_not_all_due_together() -> None:
    timetable = Timetable(30, None)
    for partition in range(8):
        timetable.begin(partition, None, 0.0)
    due = [min(now_s for now_s in range(31) if timetable.is_due(partition, 1, now_s)) for partition in range(8)]
    assert len(set(due)) > 4
    assert min(due) >= 15


def test_restores_however_often_put_no_checkpoint_off_until_the_partition_goes() -> None:
    timetable = Timetable(30, None)
    for second in range(31):  # as when transactions are aborted again and again
        timetable.begin(0, 100, float(second))
    assert timetable.is_due(0, 200, 30.0)
    timetable.forget(0)
    timetable.begin(0, 100, 30.0)
    assert not timetable.is_due(0, 200, 44.0)


def test_nothing_is_due_that_is_saved_already_and_nothing_is_remembered_of_what_is_gone() -> None:
    timetable = Timetable(30, 1)
    timetable.begin(0, 100, 0.0)
    assert not timetable.is_due(0, 100, 1e6)
    assert timetable.is_due(0, 101, 0.0)
    timetable.failed(0, 0.0)
    timetable.forget(0)
    timetable.begin(0, 100, 0.0)
    assert timetable.is_due(0, 101, 0.0)
    assert timetable.saved_at(0) == 100
