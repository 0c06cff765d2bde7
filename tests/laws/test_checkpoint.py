"""Laws of checkpoints: what was written comes back or is refused, and no crash takes the earlier ones along."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from uuid import uuid4

import fsspec
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from worker.artifact import StateSlot
from worker.checkpoint import CheckpointRef, CheckpointStore, CheckpointWriter, Snapshot, WriteFailed, Written
from worker.checkpoint.folders import TEMPORARY, LocalDirectory
from worker.errors import CheckpointDamaged, CheckpointOfOtherModel, TransientFault, UsageError

TOPIC = "samples"
ROOT = Path(__file__).parents[2]
COLUMNS = ("timesteps", "starts", "start_samples", "times", "offsets")
REUSES_THE_FOLDER: dict[str, Any] = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "deadline": None}
reuses_the_folder = settings(**REUSES_THE_FOLDER)


def make_layout(*shapes: tuple[int, ...]) -> tuple[StateSlot, ...]:
    starts = accumulate((prod(shape) for shape in shapes), initial=0)
    pairs = enumerate(zip(shapes, starts, strict=False))
    return tuple(StateSlot(layer=f"lstm_{i}", name="hc"[i % 2], shape=shape, offset=at) for i, (shape, at) in pairs)


LAYOUT = make_layout((3,), (2, 2))


def make_snapshot(
    next_offset: int = 100,
    ids: list[bytes] | None = None,
    *,
    topic: str = TOPIC,
    partition: int = 0,
    layout: tuple[StateSlot, ...] = LAYOUT,
    **changes: Any,
) -> Snapshot:
    """A plausible snapshot in which every number differs from every other."""
    ids = [b"a", b"bb", b"", "żółw".encode()] if ids is None else ids
    n, size = len(ids), sum(prod(slot.shape) for slot in layout)
    row = np.arange(n, dtype=np.int64)
    states = (np.arange(n * size, dtype=np.float32) - 7.25).reshape(n, size)
    values: dict[str, Any] = {
        "topic_id": "Abc-_123",
        "leader_epoch": 7,
        "artifact_digest": "d1" * 32,
        "stream_time": 1_700_000_000_999,
        "stream_ids": ids,
        "states": states,
        "timesteps": row + 5,
        "starts": row * 2,
        "start_samples": row % 3,
        "times": row + 1_700_000_000_000,
        "offsets": row * 2 + 1,
        "created_ms": 1_700_000_001_234,
    }
    return Snapshot(topic=topic, partition=partition, next_offset=next_offset, **(values | changes))


def assert_equal(found: Snapshot, expected: Snapshot) -> None:
    for name in Snapshot.__dataclass_fields__:
        left, right = getattr(found, name), getattr(expected, name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        else:
            assert left == right, name
            assert type(left) is type(right), name


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "directory":
        yield str(tmp_path / "checkpoints")
    else:
        root = uuid4().hex
        yield f"memory://{root}"
        memory = fsspec.filesystem("memory")
        if memory.exists(f"/{root}"):
            memory.rm(f"/{root}", recursive=True)


@pytest.fixture
def store(url: str) -> CheckpointStore:
    return CheckpointStore(url, "group", LAYOUT)


@pytest.fixture
def local(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "local"), "group", LAYOUT)


# ---- writing and reading


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


# ---- damage


def overwrite(ref: CheckpointRef, content: bytes) -> None:
    Path(ref.path).write_bytes(content)


@reuses_the_folder
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_noticed(local: CheckpointStore, place: float, bit: int) -> None:
    ref = local.write(make_snapshot())
    content = bytearray(Path(ref.path).read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    overwrite(ref, bytes(content))
    with pytest.raises(CheckpointDamaged, match="SHA-256"):
        local.read(ref)
    assert not local.sound(ref)
    assert not CheckpointStore(local.url, "group", LAYOUT).sound(ref)


@reuses_the_folder
@given(share=st.floats(0, 1, exclude_max=True), appended=st.binary(max_size=3))
def test_file_of_another_length_is_noticed(local: CheckpointStore, share: float, appended: bytes) -> None:
    ref = local.write(make_snapshot())
    content = Path(ref.path).read_bytes()
    overwrite(ref, content[: int(share * len(content))] + appended)
    with pytest.raises(CheckpointDamaged, match="SHA-256"):
        local.read(ref)


def test_file_that_is_gone_is_damaged_and_says_so(store: CheckpointStore) -> None:
    ref = store.write(make_snapshot())
    store.remove(ref)
    store.remove(ref)
    with pytest.raises(CheckpointDamaged, match="is gone"):
        store.read(ref)


def test_file_larger_than_the_limit_is_not_opened(tmp_path: Path) -> None:
    ref = CheckpointStore(str(tmp_path), "group", LAYOUT).write(make_snapshot())
    with pytest.raises(CheckpointDamaged, match="at most 100"):
        CheckpointStore(str(tmp_path), "group", LAYOUT, max_bytes=100).read(ref)


def forge(store: CheckpointStore, edit: Callable[[Any], None], snapshot: Snapshot | None = None) -> CheckpointRef:
    """A file that was edited and published again with a digest that fits."""
    ref = store.write(snapshot or make_snapshot())
    with h5py.File(ref.path, "r+") as h5:
        edit(h5)
    return publish(store, ref, Path(ref.path).read_bytes())


def publish(store: CheckpointStore, ref: CheckpointRef, content: bytes) -> CheckpointRef:
    Path(ref.path).unlink(missing_ok=True)
    path = Path(ref.path).with_name(f"{ref.next_offset:020d}-{hashlib.sha256(content).hexdigest()}.h5")
    path.write_bytes(content)
    (found,) = store.refs(TOPIC, 0)
    return found


def replace(h5: Any, name: str, values: Any, **options: Any) -> None:
    del h5[name]
    h5.create_dataset(name, data=values, **options)


def soft_link(h5: Any) -> None:
    h5["timesteps_"] = h5["timesteps"]
    del h5["timesteps"]
    h5["timesteps"] = h5py.SoftLink("/starts")
    del h5["timesteps_"]


def external_link(h5: Any) -> None:
    del h5["timesteps"]
    h5["timesteps"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_group(h5: Any) -> None:
    del h5["states"]
    h5["states"] = h5py.ExternalLink("other.h5", "/states")


def virtual(h5: Any) -> None:
    del h5["timesteps"]
    layout = h5py.VirtualLayout((4,), "<i8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    h5.create_virtual_dataset("timesteps", layout)


def external_storage(h5: Any) -> None:
    del h5["timesteps"]
    h5.create_dataset("timesteps", (4,), "<i8", external=[("/etc/hostname", 0, 32)])


def unallocated(h5: Any) -> None:
    for name in COLUMNS:
        del h5[name]
        h5.create_dataset(name, (2**40,), "<i8")
    del h5["ids/offsets"]
    h5.create_dataset("ids/offsets", (2**40 + 1,), "<i8")


def huge_blob(h5: Any) -> None:
    del h5["ids/blob"]
    h5.create_dataset("ids/blob", (2**50,), "u1")


def null_space(h5: Any) -> None:
    del h5["times"]
    h5["times"] = h5py.Empty("<i8")


def cycle(h5: Any) -> None:
    del h5["states"]
    h5["states"] = h5["/"]


def many_slots(h5: Any) -> None:
    for index in range(2, 5000):
        h5["states"].create_group(str(index))


def set_value(name: str, at: int, value: float) -> Callable[[Any], None]:
    def edit(h5: Any) -> None:
        h5[name][at] = value

    return edit


def set_attribute(name: str, value: Any) -> Callable[[Any], None]:
    def edit(h5: Any) -> None:
        h5.attrs[name] = value

    return edit


FORGERIES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a newer format": (set_attribute("format_version", np.int64(2)), "format version 2"),
    "no version": (lambda h5: h5.attrs.__delitem__("format_version"), "format_version"),
    "a number as text": (set_attribute("next_offset", "100"), "next_offset"),
    "a text as number": (set_attribute("topic", 3), "topic"),
    "a text of variable length": (set_attribute("topic", TOPIC), "fixed length"),
    "an array as number": (set_attribute("partition", np.zeros(3, np.int64)), "partition"),
    "a long text": (set_attribute("topic_id", np.bytes_("x" * 10_000)), "topic_id"),
    "another partition": (set_attribute("partition", np.int64(1)), "its place says"),
    "another offset": (set_attribute("next_offset", np.int64(101)), "its place says"),
    "another topic": (set_attribute("topic", np.bytes_("other")), "its place says"),
    "a soft link": (soft_link, "link"),
    "an external link": (external_link, "link"),
    "an external group": (external_group, "link"),
    "a virtual dataset": (virtual, "virtual"),
    "external storage": (external_storage, "external"),
    "compression": (lambda h5: replace(h5, "times", np.zeros(4, np.int64), compression="gzip"), "compressed"),
    "chunks": (lambda h5: replace(h5, "times", np.zeros(4, np.int64), chunks=(2,)), "chunked"),
    "shapes that lie": (unallocated, "claims"),
    "an absurd blob": (huge_blob, "claims"),
    "no dataspace": (null_space, "axes"),
    "an extra member": (lambda h5: h5.create_group("more"), "other members"),
    "a missing member": (lambda h5: h5.__delitem__("times"), "other members"),
    "a group for a dataset": (lambda h5: (h5.__delitem__("times"), h5.create_group("times")), "not a dataset"),
    "a dataset for a group": (lambda h5: replace(h5, "states", np.zeros(3)), "not a group"),
    "a cycle": (cycle, "other members"),
    "many slots": (many_slots, "state slots"),
    "another dtype": (lambda h5: replace(h5, "times", np.zeros(4, np.int32)), "int32"),
    "object references": (lambda h5: replace(h5, "times", [h5.ref] * 4, dtype=h5py.ref_dtype), "axes"),
    "long strings": (lambda h5: replace(h5, "times", ["x"] * 4, dtype=h5py.string_dtype()), "axes"),
    "double states": (lambda h5: replace(h5, "states/0", np.zeros((4, 3))), "float64"),
    "a short column": (lambda h5: replace(h5, "times", np.zeros(3, np.int64)), "3 rows"),
    "a wide column": (lambda h5: replace(h5, "times", np.zeros((4, 1), np.int64)), "axes"),
    "no offsets": (lambda h5: replace(h5, "ids/offsets", np.zeros(0, np.int64)), "empty"),
    "offsets that shrink": (set_value("ids/offsets", 1, 4), "do not cut"),
    "offsets that begin late": (set_value("ids/offsets", 0, 1), "do not cut"),
    "offsets beyond the blob": (set_value("ids/offsets", 4, 100), "do not cut"),
    "a stream twice": (lambda h5: h5["ids/offsets"].write_direct(np.array([0, 0, 0, 1, 10])), "more than once"),
    "a negative timestep": (set_value("timesteps", 2, -1), "contradict"),
    "a negative start": (set_value("starts", 0, -1), "contradict"),
    "a negative sample": (set_value("start_samples", 0, -1), "contradict"),
    "a start after the last record": (set_value("starts", 1, 4), "contradict"),
    "a record that is not handled yet": (set_value("offsets", 3, 100), "contradict"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_file_with_a_digest_that_fits_is_refused(local: CheckpointStore, kind: str) -> None:
    edit, word = FORGERIES[kind]
    ref = forge(local, edit)
    for layout in (LAYOUT, None):
        with pytest.raises(CheckpointDamaged, match=word) as caught:
            CheckpointStore(local.url, "group", layout).read(ref)
        assert ref.path in str(caught.value)


def test_slot_with_other_rows_than_the_streams_is_refused(local: CheckpointStore) -> None:
    ref = forge(local, lambda h5: replace(h5, "states/0", np.zeros((5, 3), np.float32)))
    with pytest.raises(CheckpointDamaged):
        CheckpointStore(local.url, "group", None).read(ref)


def test_file_that_is_not_hdf5_is_refused_whatever_its_digest(local: CheckpointStore) -> None:
    ref = local.write(make_snapshot())
    content = Path(ref.path).read_bytes()
    for forged in (b"", b"\x89HDF\r\n\x1a\n", content[:100], content[:-1], b"\0" * 5000):
        ref = publish(local, ref, forged)
        with pytest.raises(CheckpointDamaged, match="HDF5 cannot read"):
            local.read(ref)


@settings(max_examples=300, **REUSES_THE_FOLDER)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_bytes_with_a_digest_that_fits_are_read_or_refused(
    local: CheckpointStore, flips: list[tuple[float, int]]
) -> None:
    shutil.rmtree(local.url, ignore_errors=True)
    ref = local.write(make_snapshot())
    content = bytearray(Path(ref.path).read_bytes())
    for place, mask in flips:
        content[int(place * len(content))] ^= mask
    try:
        local.read(publish(local, ref, bytes(content)))
    except CheckpointDamaged:
        pass


@pytest.mark.parametrize(
    "layout",
    [
        make_layout((3,)),
        make_layout((3,), (2, 2), (1,)),
        make_layout((4,), (3,)),
        make_layout((3,), (4,)),
        (LAYOUT[0], StateSlot(layer="gru", name="c", shape=(2, 2), offset=3)),
        (LAYOUT[0], StateSlot(layer="lstm_1", name="h", shape=(2, 2), offset=3)),
        (),
    ],
)
def test_states_of_another_layout_are_another_models(store: CheckpointStore, layout: tuple[StateSlot, ...]) -> None:
    ref = store.write(make_snapshot())
    with pytest.raises(CheckpointOfOtherModel, match="d1d1d1"):
        CheckpointStore(store.url, "group", layout).read(ref)
    assert_equal(CheckpointStore(store.url, "group", None).read(ref), make_snapshot())


def test_what_the_file_is_of_is_returned_not_judged(store: CheckpointStore) -> None:
    snapshot = make_snapshot(artifact_digest="another", topic_id="recreated")
    found = store.read(store.write(snapshot))
    assert (found.artifact_digest, found.topic_id) == ("another", "recreated")


# ---- crashes while writing


STEPS = ("build", "built", "_sync_file", "_rename", "renamed", "_sync_directory")


class FailsAt(LocalDirectory):
    """A directory that calls `fail` when publishing reaches a step."""

    fail: ClassVar[Callable[[], None]]

    def __init__(self, root: Path, step: str) -> None:
        super().__init__(root)
        self.step = step

    def reach(self, step: str) -> None:
        if step == self.step:
            self.fail()

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        def building(file: BinaryIO) -> str:
            file.write(b"\x89HDF half of it")
            self.reach("build")
            file.seek(0)
            file.truncate(0)
            name = build(file)
            self.reach("built")
            return name

        return super().publish(folder, building)

    def _sync_file(self, file: BinaryIO) -> None:
        self.reach("_sync_file")
        super()._sync_file(file)

    def _rename(self, temporary: Path, final: Path) -> None:
        self.reach("_rename")
        super()._rename(temporary, final)
        self.reach("renamed")

    def _sync_directory(self, directory: Path) -> None:
        self.reach("_sync_directory")
        super()._sync_directory(directory)


class Dies(FailsAt):
    fail = staticmethod(lambda: os._exit(9))


class NoSpace(FailsAt):
    @staticmethod
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def assert_only_whole_checkpoints(store: CheckpointStore, earlier: CheckpointRef) -> None:
    refs = store.refs(TOPIC, 0)
    assert earlier in refs
    for ref in refs:
        assert_equal(store.read(ref), make_snapshot(ref.next_offset))


@pytest.mark.parametrize("step", STEPS)
def test_process_that_dies_while_writing_leaves_only_whole_checkpoints(local: CheckpointStore, step: str) -> None:
    earlier = local.write(make_snapshot(50))
    code = (
        "import sys; from pathlib import Path; from tests.laws.test_checkpoint import *\n"
        "store = CheckpointStore(sys.argv[1], 'group', LAYOUT, folders=Dies(Path(sys.argv[1]), sys.argv[2]))\n"
        "store.write(make_snapshot(100))"
    )
    died = subprocess.run([sys.executable, "-c", code, local.url, step], check=False, timeout=60, cwd=ROOT)
    assert died.returncode == 9
    assert_only_whole_checkpoints(local, earlier)
    assert [ref.next_offset for ref in local.refs(TOPIC, 0)] == ([100, 50] if step in STEPS[4:] else [50])

    leftovers = [name for name in os.listdir(Path(earlier.path).parent) if name.startswith(TEMPORARY)]
    assert len(leftovers) == (0 if step in STEPS[4:] else 1)
    local.collect(TOPIC, 0, committed=50, keep=2)
    assert len(os.listdir(Path(earlier.path).parent)) == 2, "a fresh leftover may belong to a live writer"
    for name in leftovers:
        os.utime(Path(earlier.path).with_name(name), (1, 1))
    local.collect(TOPIC, 0, committed=50, keep=2)
    assert all(name.endswith(".h5") for name in os.listdir(Path(earlier.path).parent))


@pytest.mark.parametrize("step", STEPS)
def test_write_that_fails_leaves_only_whole_checkpoints_and_no_leftovers(local: CheckpointStore, step: str) -> None:
    earlier = local.write(make_snapshot(50))
    failing = CheckpointStore(local.url, "group", LAYOUT, folders=NoSpace(Path(local.url), step))
    with pytest.raises(TransientFault, match="No space left"):
        failing.write(make_snapshot(100))
    assert_only_whole_checkpoints(local, earlier)
    assert all(name.endswith(".h5") for name in os.listdir(Path(earlier.path).parent))


class FullAfter(LocalDirectory):
    """A directory on a medium that takes only so many writes."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.left = writes

    def publish(self, folder: str, build: Callable[[BinaryIO], str]) -> tuple[str, int]:
        return super().publish(folder, lambda file: build(self.Medium(file, self)))  # type: ignore[arg-type]

    class Medium:
        """Takes at most 100 bytes a time, as `write` may."""

        def __init__(self, file: Any, owner: FullAfter) -> None:
            self.file, self.owner = file, owner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, buffer: Any) -> int:
            self.owner.left -= 1
            if self.owner.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(memoryview(buffer)[:100]))

        def readinto(self, buffer: Any) -> int:
            return int(self.file.readinto(memoryview(buffer)[:100]))


def test_full_disk_is_said_and_leaves_nothing_open_in_hdf5(tmp_path: Path) -> None:
    failures = 0
    for writes in range(0, 400, 7):
        store = CheckpointStore(str(tmp_path), "group", LAYOUT, folders=FullAfter(tmp_path, writes))
        try:
            ref = store.write(make_snapshot(writes))
        except TransientFault as fault:
            assert "No space left" in str(fault)  # noqa: PT017 - some of the writes must succeed
            failures += 1
        else:
            assert_equal(CheckpointStore(str(tmp_path), "group", LAYOUT).read(ref), make_snapshot(writes))
    assert 5 < failures < 57
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0


def test_every_checkpoint_that_is_listed_can_be_read_while_others_are_written(local: CheckpointStore) -> None:
    done = threading.Event()
    seen: set[int] = set()

    def read_all() -> None:
        reader = CheckpointStore(local.url, "group", LAYOUT)
        while not done.is_set():
            for ref in reader.refs(TOPIC, 0):
                assert_equal(reader.read(ref), make_snapshot(ref.next_offset))
                seen.add(ref.next_offset)

    thread = threading.Thread(target=read_all)
    thread.start()
    for offset in range(100, 130):
        local.write(make_snapshot(offset))
    done.set()
    thread.join()
    assert seen


# ---- collecting


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

    def write(self, snapshot: Snapshot) -> CheckpointRef:
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
