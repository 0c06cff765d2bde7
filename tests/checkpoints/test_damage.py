"""Laws of damage: a file that was cut, altered, forged or moved is refused, mostly before HDF5 parses a byte."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.checkpoints.snapshots import (
    COLUMNS,
    LAYOUT,
    REUSES_THE_FOLDER,
    TOPIC,
    assert_equal,
    make_layout,
    make_snapshot,
    overwrite,
    reuses_the_folder,
)
from worker.artifact import StateSlot
from worker.checkpoint import FORMAT_VERSION, CheckpointRef, CheckpointStore, Snapshot
from worker.errors import CheckpointDamaged, CheckpointOfOtherModel


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
    changed = content[: int(share * len(content))] + appended
    assume(changed != content)
    overwrite(ref, changed)
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
    "a newer format": (set_attribute("format_version", np.int64(FORMAT_VERSION + 1)), "of a newer cellstream"),
    "no format that there was": (set_attribute("format_version", np.int64(0)), "never was"),
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
