"""Laws of the store: what was written comes back bit for bit, and each group keeps to its folder."""

from __future__ import annotations

from math import prod
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.checkpoints.snapshots import (
    LAYOUT,
    TOPIC,
    assert_equal,
    make_layout,
    make_snapshot,
    reuses_the_folder,
)
from worker.artifact import StateSlot
from worker.checkpoint import CheckpointStore, Snapshot
from worker.checkpoint.local import TEMPORARY
from worker.errors import CheckpointDamaged, TransientFault, UsageError


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[Snapshot, tuple[StateSlot, ...]]:
    shapes = draw(st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), max_size=4))
    layout = make_layout(*shapes)
    ids = draw(st.lists(st.binary(max_size=20), unique=True, max_size=12))
    n, size = len(ids), sum(prod(slot.shape) for slot in layout)
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    next_offset = draw(st.integers(n, 2**62))
    counts = npst.arrays(np.int64, n, elements=st.integers(0, 2**62))
    offsets = draw(npst.arrays(np.int64, n, elements=st.integers(0, next_offset - 1))) if n else np.empty(0, np.int64)
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    snapshot = make_snapshot(
        next_offset,
        ids,
        layout=layout,
        partition=draw(st.integers(0, 2**31 - 1)),
        topic=draw(st.from_regex(r"\A[a-zA-Z0-9._-]{1,60}\Z")),
        topic_id=draw(text),
        leader_epoch=draw(st.integers(-1, 2**31 - 1)),
        artifact_digest=draw(text),
        stream_time=draw(st.integers(-1, 2**62)),
        states=draw(npst.arrays(np.float32, (n, size), elements=finite)),
        timesteps=draw(counts),
        starts=offsets // draw(st.integers(1, 3)),
        start_samples=draw(counts),
        times=draw(npst.arrays(np.int64, n, elements=st.integers(-1, 2**62))),
        offsets=offsets,
        created_ms=draw(st.integers(0, 2**62)),
    )
    return snapshot, layout


@reuses_the_folder
@given(made=snapshots())
@example(made=(make_snapshot(0, []), LAYOUT))
def test_what_is_written_comes_back_bit_for_bit(url: str, made: tuple[Snapshot, tuple[StateSlot, ...]]) -> None:
    snapshot, layout = made
    store = CheckpointStore(f"{url}/{uuid4().hex}", "group", layout)
    ref = store.write(snapshot)
    assert store.refs(snapshot.topic, snapshot.partition) == [ref]
    assert store.partitions(snapshot.topic) == [snapshot.partition]
    assert store.topics() == [snapshot.topic]
    for reader in (store, CheckpointStore(store.url, "group", layout), CheckpointStore(store.url, "group", None)):
        assert_equal(reader.read(ref), snapshot)


def test_more_streams_than_are_copied_at_a_time_come_back(local: CheckpointStore) -> None:
    snapshot = make_snapshot(10**6, [f"stream-{i}".encode() for i in range(20_011)])
    assert_equal(local.read(local.write(snapshot)), snapshot)


def test_same_snapshot_gives_the_same_file_and_is_written_once(store: CheckpointStore) -> None:
    assert store.write(make_snapshot()) == store.write(make_snapshot())
    assert len(store.refs(TOPIC, 0)) == 1


def test_refs_are_newest_first_and_partitions_stay_apart(store: CheckpointStore) -> None:
    for offset in (20, 100, 9):
        store.write(make_snapshot(offset))
    other = store.write(make_snapshot(50, partition=3))
    assert [ref.next_offset for ref in store.refs(TOPIC, 0)] == [100, 20, 9]
    assert store.refs(TOPIC, 3) == [other]
    assert store.partitions(TOPIC) == [0, 3]
    assert store.refs(TOPIC, 1) == []
    assert store.partitions("unknown") == []


@pytest.mark.parametrize("rows", [3, 4, 9])
def test_states_are_read_to_where_the_caller_wants_them_if_they_fit(tmp_path: Path, rows: int) -> None:
    store = CheckpointStore(str(tmp_path), "group", LAYOUT)
    snapshot = make_snapshot()
    into = np.full((rows, snapshot.states.shape[1]), np.nan, np.float32)
    found = store.read(store.write(snapshot), into)
    assert_equal(found, snapshot)
    assert np.shares_memory(found.states, into) == (rows >= len(snapshot))
    assert np.isnan(into[len(snapshot) :]).all()


@pytest.mark.parametrize("group", ["..", ".", "../../etc", "/etc", "a/b", ".hidden", "a\\b", "%2e%2e", "grüße", "a\nb"])
def test_no_group_id_leaves_its_folder(tmp_path: Path, group: str) -> None:
    root = tmp_path / "outer" / "inner"
    store = CheckpointStore(str(root), group, LAYOUT)
    ref = store.write(make_snapshot())
    assert_equal(store.read(ref), make_snapshot())
    written = list(tmp_path.rglob("*.h5"))
    assert [path.parents[3] for path in written] == [root]
    assert CheckpointStore(str(root), "group", LAYOUT).refs(TOPIC, 0) == []


@pytest.mark.parametrize("topic", ["..", ".", "...", "a.b"])
def test_no_topic_leaves_its_folder(tmp_path: Path, topic: str) -> None:
    store = CheckpointStore(str(tmp_path), "group", LAYOUT)
    store.write(make_snapshot(topic=topic))
    assert [path.parents[2].name for path in tmp_path.rglob("*.h5")] == ["group"]
    assert store.topics() == [topic]


def test_group_id_that_is_no_folder_name_is_refused(tmp_path: Path) -> None:
    for group in ("", "x" * 256, "/" * 100):
        with pytest.raises(UsageError, match="group_id"):
            CheckpointStore(str(tmp_path), group, None)


def test_store_that_cannot_be_reached_is_wrong_usage_or_a_passing_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoints: nonsense://"):
        CheckpointStore("nonsense://bucket", "group", LAYOUT)
    (tmp_path / "file").write_text("not a directory")
    store = CheckpointStore(str(tmp_path / "file"), "group", LAYOUT)
    assert store.refs(TOPIC, 0) == []
    with pytest.raises(TransientFault, match="checkpoint store"):
        store.write(make_snapshot())


def test_foreign_files_are_ignored(store: CheckpointStore, url: str) -> None:
    ref = store.write(make_snapshot())
    folder = f"{url}/group/{TOPIC}/0"
    fs = fsspec.filesystem("memory" if url.startswith("memory") else "file")
    for name in ("README", ref.name + ".bak", "x" + ref.name, ref.name.upper(), f"{TEMPORARY}1-2", "0-abc.h5"):
        fs.pipe_file(f"{folder}/{name}", b"?")
    fs.makedirs(f"{folder}/{'1' * 20}-{'a' * 64}.h5")
    fs.makedirs(f"{url}/group/{TOPIC}/not-a-partition")
    assert store.refs(TOPIC, 0) == [ref]
    assert store.partitions(TOPIC) == [0]


def test_symbolic_link_is_no_checkpoint(local: CheckpointStore) -> None:
    ref = local.write(make_snapshot())
    path = Path(ref.path)
    moved = path.rename(path.parent / "elsewhere")
    path.symlink_to(moved)
    assert local.refs(TOPIC, 0) == []
    with pytest.raises((CheckpointDamaged, TransientFault)):
        local.read(ref)


def test_state_that_a_model_made_infinite_is_kept_as_the_model_has_it(store: CheckpointStore) -> None:
    states = make_snapshot().states.copy()
    states[2, 3:6] = np.nan, np.inf, -np.inf
    kept = store.read(store.write(make_snapshot(states=states))).states
    assert kept.tobytes() == states.tobytes()
