"""Laws of collecting and of the background writer."""

from __future__ import annotations

import errno
import shutil
import threading
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints.snapshots import (
    LAYOUT,
    TOPIC,
    make_snapshot,
    overwrite,
    reuses_the_folder,
)
from worker.checkpoint import AnySnapshot, CheckpointRef, CheckpointStore, CheckpointWriter, WriteFailed, Written


@reuses_the_folder
@given(
    made=st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=8, unique_by=lambda pair: pair[0]),
    committed=st.integers(0, 20),
    keep=st.integers(2, 4),
    restarted=st.booleans(),
)
def test_collection_keeps_enough_sound_ones_and_all_above_the_committed_offset(
    local: CheckpointStore, made: list[tuple[int, bool]], committed: int, keep: int, restarted: bool
) -> None:
    shutil.rmtree(local.url, ignore_errors=True)
    plain = {"ids": [], "states": np.empty((0, 7), np.float32)}
    for offset, damaged in made:
        ref = local.write(make_snapshot(offset, **plain))
        if damaged:
            overwrite(ref, b"damaged")
    store = CheckpointStore(local.url, "group", LAYOUT)
    if restarted:
        assert all(isinstance(store.sound(ref), bool) for ref in store.refs(TOPIC, 0))
    store.collect(TOPIC, 0, committed, keep)
    left = {ref.next_offset for ref in store.refs(TOPIC, 0)}
    sound = sorted((offset for offset, damaged in made if not damaged and offset <= committed), reverse=True)
    assert set(sound[:keep]) <= left
    assert {offset for offset, _ in made if offset > committed} <= left
    assert not set(sound[keep:]) & left
    if len(sound) >= keep:
        assert min(left) == sound[keep - 1]


def test_collection_is_repeatable_and_names_what_it_removed(store: CheckpointStore) -> None:
    refs = [store.write(make_snapshot(offset)) for offset in (10, 20, 30, 40)]
    assert store.collect(TOPIC, 0, committed=30, keep=2) == [refs[0]]
    assert store.collect(TOPIC, 0, committed=30, keep=2) == []
    assert store.refs(TOPIC, 0) == refs[:0:-1]


# ---- the background writer


class Slow(CheckpointStore):
    """A store whose writes wait for a gate, and fail when told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "group", LAYOUT)
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.faults: list[Exception] = []

    def write(self, snapshot: AnySnapshot) -> CheckpointRef:
        self.begun.set()
        assert self.gate.wait(30)
        if self.faults:
            raise self.faults.pop()
        return super().write(snapshot)


def test_newer_snapshot_of_a_partition_replaces_the_one_that_waits(url: str) -> None:
    store = Slow(url)
    writer = CheckpointWriter(store, keep=2)
    writer.submit(make_snapshot(10))
    assert store.begun.wait(30)
    for offset in (20, 30):
        writer.submit(make_snapshot(offset))
        writer.submit(make_snapshot(offset, partition=1))
    assert not writer.idle
    assert writer.results() == []
    store.gate.set()
    assert writer.close(30)
    assert writer.idle
    results = writer.results()
    assert all(isinstance(result, Written) and result.created_ms == 1_700_000_001_234 for result in results)
    written = [(result.ref.partition, result.ref.next_offset) for result in results if isinstance(result, Written)]
    assert written == [(0, 10), (0, 30), (1, 30)]
    assert writer.results() == []


def test_store_that_fails_is_reported_and_the_next_snapshot_is_written(url: str) -> None:
    store = Slow(url)
    store.gate.set()
    store.faults = [RuntimeError("anything at all"), OSError(errno.ENOSPC, "No space left on device")]
    writer = CheckpointWriter(store, keep=2)
    for offset in (10, 20, 30):
        writer.submit(make_snapshot(offset))
        assert writer.wait(30)
    results = writer.results()
    assert [type(result) for result in results] == [WriteFailed, WriteFailed, Written]
    assert [result.next_offset for result in results if isinstance(result, WriteFailed)] == [10, 20]
    assert writer.close(30)


def test_old_checkpoints_go_after_each_write_unless_the_partition_was_disowned(url: str) -> None:
    store = CheckpointStore(url, "group", LAYOUT)
    writer = CheckpointWriter(store, keep=2)

    def write(offset: int) -> list[int]:
        writer.submit(make_snapshot(offset))
        assert writer.wait(30)
        return [ref.next_offset for ref in store.refs(TOPIC, 0)]

    assert [write(offset) for offset in (10, 20, 30)] == [[10], [20, 10], [30, 20]]
    assert writer.close(30)

    slow = Slow(url)
    writer = CheckpointWriter(slow, keep=2)
    writer.submit(make_snapshot(40))
    assert slow.begun.wait(30)
    writer.submit(make_snapshot(50))
    writer.disown(TOPIC, 0, discard=True)
    slow.gate.set()
    assert writer.close(30)
    assert [ref.next_offset for ref in store.refs(TOPIC, 0)] == [40, 30, 20]


def test_close_is_bounded_by_its_deadline_though_the_store_hangs(url: str) -> None:
    store = Slow(url)
    writer = CheckpointWriter(store, keep=2)
    writer.submit(make_snapshot(10))
    assert store.begun.wait(30)
    writer.submit(make_snapshot(20))
    begun = time.monotonic()
    assert not writer.close(0.05)
    assert time.monotonic() - begun < 10
    store.gate.set()
    assert writer.wait(30)
    assert [ref.next_offset for ref in store.refs(TOPIC, 0)] == [10], "what waited is dropped, what was begun is whole"


def test_idle_writer_closes_at_once(url: str) -> None:
    writer = CheckpointWriter(CheckpointStore(url, "group", LAYOUT), keep=2)
    assert writer.idle
    assert writer.close(30)
