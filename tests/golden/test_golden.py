"""What earlier versions have written is read as what it was, and what a later one would write is refused by name.

Each folder beside this file was written by `make.py` with the code of the commit that it is named after.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.golden.make import CUT, FEATURES, GROUP, IDS, KEY, OFFSET, TOPIC, TOPIC_ID, columns, extras, inputs
from worker.artifact import FORMAT_VERSION as ARTIFACT_VERSION
from worker.artifact import Artifact, read_artifact
from worker.checkpoint import FORMAT_VERSION, CheckpointRef, CheckpointStore, CheckpointWriter
from worker.checkpoint.packing import VERSION as PACKING_VERSION
from worker.checkpoint.packing import Packing
from worker.checkpoint.pointer import FORMAT as POINTER_FORMAT
from worker.checkpoint.pointer import Pointer, problem
from worker.errors import ArtifactRefused, CheckpointOfNewerVersion, StateRefused
from worker.records import Position
from worker.recovery.keeper import StateKeeper
from worker.recovery.note import VERSION as NOTE_VERSION
from worker.recovery.note import Note, former_partitions
from worker.recovery.start import Log, Policies
from worker.rekey.places import Places
from worker.state.partition import Extras, PartitionState
from worker.streaming import StreamingModel

HERE = Path(__file__).parent
FORMER = sorted(path.parent.name for path in HERE.glob("*/expected.json"))
NEWEST = "28569f7"  # has an example of everything


def expected(commit: str) -> dict[str, Any]:
    """What the former version said."""
    found: dict[str, Any] = json.loads((HERE / commit / "expected.json").read_text())
    return found


@cache
def model_of(digest: str) -> StreamingModel:
    """The model of an artifact, by any folder that has it: loading takes seconds, and every commit has the same."""
    directories = (HERE / commit / "artifact" for commit in FORMER)
    return StreamingModel.load(next(path for path in directories if read_artifact(path).digest == digest))


def store_of(commit: str, kind: str, artifact: Artifact, packing: Packing | None = None) -> CheckpointStore:
    """The store that a former version wrote its checkpoint to."""
    return CheckpointStore(str(HERE / commit / kind), GROUP, artifact.manifest.state_layout, packing=packing)


def restored(commit: str, kind: str, note: str, packing: Packing | None = None, wanted: Extras | None = None) -> Any:
    """The state that a worker of today restores, and where it begins."""
    artifact = read_artifact(HERE / commit / "artifact")
    store = store_of(commit, kind, artifact, packing)
    writer = CheckpointWriter(store, 2)
    initial = np.zeros(artifact.manifest.state_size, np.float32)
    keeper = StateKeeper(
        writer, initial, 100, artifact.digest, Policies(), 1e9, None, extras=wanted or Extras(False, 0)
    )
    committed = Position(0, OFFSET + 20, note)
    bounds = Log(TOPIC, 0, TOPIC_ID, 0, 1000, committed, 4, former_partitions([committed]))
    try:
        return keeper.load(bounds)
    finally:
        writer.close(10)


def assert_restored(state: PartitionState, start: Any, commit: str) -> None:
    """It is what the former version saved, to the bit."""
    assert (start.next_offset, start.committed, start.why) == (OFFSET, OFFSET + 20, "checkpoint")
    assert (state.stream_time, state.leader_epoch) == (1_700_000_000_005, 5)
    rows = [state.index[stream_id] for stream_id in IDS]
    assert_array_equal(state.states[rows], np.array(expected(commit)["states"], np.float32))
    for name, column in columns().items():
        assert_array_equal(getattr(state, name)[rows], column, err_msg=name)


@pytest.mark.parametrize("commit", FORMER)
def test_a_checkpoint_of_a_former_version_is_gone_on_from_to_the_answers_that_it_would_have_given(commit: str) -> None:
    wanted = expected(commit)
    artifact = read_artifact(HERE / commit / "artifact")
    assert artifact.digest == wanted["digest"], "another digest would be another model"
    assert artifact.manifest.features == FEATURES
    model = model_of(artifact.digest)
    tolerance = artifact.manifest.tolerance
    answers, _ = model.step(inputs()[:, :CUT], model.initial_states(len(IDS)))
    np.testing.assert_allclose(answers[:, :, 0], wanted["answers"], atol=tolerance, rtol=0)
    state, start = restored(commit, "plain", wanted["notes"][0])
    assert_restored(state, start, commit)
    assert start.origin == 7
    later, _ = model.step(inputs()[:, CUT:], state.states[[state.index[stream_id] for stream_id in IDS]])
    np.testing.assert_allclose(later[:, :, 0], wanted["later"], atol=tolerance, rtol=0)


@pytest.mark.parametrize("commit", FORMER)
def test_notes_of_a_former_version_say_what_they_said(commit: str) -> None:
    wanted = expected(commit)
    notes = [Note.of(Position(0, 1, text)) for text in wanted["notes"]]
    model = wanted["digest"][:12]
    everything = [
        Note(7, model, TOPIC_ID, 4), Note(None, model, TOPIC_ID, 4), Note(7, model, TOPIC_ID, 4, "0,17:0-421,18:37-99")
    ]  # fmt: skip
    early = [Note(7, model, TOPIC_ID, None)]
    assert notes in (early, everything[:2], everything)
    assert list(map(str, filter(None, notes))) == wanted["notes"], "so a former worker reads what this one writes"


def test_optional_columns_and_packed_files_of_a_former_version_are_read() -> None:
    note = expected(NEWEST)["notes"][0]
    state, start = restored(NEWEST, "extras", note, wanted=Extras(order=True, last_values=len(FEATURES)))
    assert_restored(state, start, NEWEST)
    rows = [state.index[stream_id] for stream_id in IDS]
    for name, column in extras().items():
        assert_array_equal(getattr(state, name)[rows], column, err_msg=name)
    state, start = restored(NEWEST, "packed", note, Packing(keys=[KEY]))
    assert_restored(state, start, NEWEST)


def test_decisions_and_narrow_states_of_a_former_version_are_read() -> None:
    deciding, narrow = (read_artifact(HERE / NEWEST / kind).manifest for kind in ("deciding", "narrow"))
    assert (deciding.format_version, narrow.format_version) == (1, 1), "they were written before there was a 2"
    assert deciding.decision is not None
    assert deciding.decision.limits == ((2.0, 2.0), (0.4, 0.4))
    assert narrow.state_dtype == "float16"


def test_a_pointer_of_a_former_version_is_read() -> None:
    pointer = Pointer.decode((HERE / NEWEST / "newest.json").read_bytes())
    assert pointer is not None
    assert (pointer.writer, pointer.newest_offset, len(pointer.files)) == ("writer", OFFSET, 1)


@pytest.mark.parametrize("kind", ["plain", "extras"])
def test_what_is_written_says_the_lowest_version_that_reads_it(tmp_path: Path, kind: str) -> None:
    artifact = read_artifact(HERE / NEWEST / "artifact")
    snapshot = store_of(NEWEST, kind, artifact).read(only(store_of(NEWEST, kind, artifact)))
    ref = CheckpointStore(str(tmp_path), GROUP, artifact.manifest.state_layout).write(snapshot)
    with h5py.File(ref.path) as written, h5py.File(only(store_of(NEWEST, kind, artifact)).path) as golden:
        assert written.attrs["format_version"] == (1 if kind == "plain" else 2)
        assert outline(written) == outline(golden), "a former worker would not know it"


def outline(h5: h5py.File) -> dict[str, object]:
    """Every dataset's type and shape, and every attribute but the version."""
    found: dict[str, object] = {}

    def note(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset):
            found[name] = thing.dtype, thing.shape
        found.update({f"{name}@{attribute}": value for attribute, value in thing.attrs.items()})

    note("", h5)
    h5.visititems(note)
    del found["@format_version"]
    return found


def only(store: CheckpointStore) -> CheckpointRef:
    """The checkpoint of a store that has one."""
    (ref,) = store.refs(TOPIC, 0)
    return ref


def newer_checkpoint(directory: Path, kind: str, change: Callable[[Path], None]) -> Callable[[], object]:
    """Read a copy of a checkpoint that was made newer, and published again."""
    shutil.copytree(HERE / NEWEST / kind, directory / kind)
    (path,) = (directory / kind).rglob("*.h5")
    change(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(path.with_name(f"{OFFSET:020d}-{digest}.h5"))
    layout = read_artifact(HERE / NEWEST / "artifact").manifest.state_layout
    store = CheckpointStore(str(directory / kind), GROUP, layout, packing=Packing(keys=[KEY]))
    return lambda: store.read(only(store))


def raise_version(path: Path) -> None:
    with h5py.File(path, "r+") as h5:
        h5.attrs["format_version"] = np.int64(FORMAT_VERSION + 1)


def raise_packing(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8] = PACKING_VERSION + 1
    path.write_bytes(content)


def newer_manifest(directory: Path) -> Callable[[], object]:
    """Read a copy of an artifact whose manifest was made newer."""
    shutil.copytree(HERE / NEWEST / "artifact", directory / "artifact")
    path = directory / "artifact" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": ARTIFACT_VERSION + 1}))
    return lambda: read_artifact(directory / "artifact")


NEWER_NOTE = Position(2, 40, f"cellstream/{NOTE_VERSION + 1} begin=7 model=0bdb1f9d2ae3")
NEWER_REKEY = Position(2, 40, f"cellstream rekey/{NOTE_VERSION + 1} of={TOPIC}")


def rekeyed() -> object:
    from worker.kafka import Survey

    return Places(TOPIC, TOPIC_ID, GROUP, "earliest").begin(2, Survey(4, {2: NEWER_REKEY}, {2: (0, 100)}))


NEWER: dict[str, tuple[Callable[[Path], Callable[[], object]], type[Exception], str]] = {
    "checkpoint": (
        lambda directory: newer_checkpoint(directory, "plain", raise_version),
        CheckpointOfNewerVersion,
        f"format version {FORMAT_VERSION + 1} of a newer cellstream, this one reads 1 to {FORMAT_VERSION}",
    ),
    "packed checkpoint": (
        lambda directory: newer_checkpoint(directory, "packed", raise_packing),
        CheckpointOfNewerVersion,
        rf"newer cellstream \(version {PACKING_VERSION + 1}\), this one unpacks {PACKING_VERSION}",
    ),
    "note": (
        lambda _: lambda: Note.of(NEWER_NOTE),
        StateRefused,
        f"committed offset 40 is of version {NOTE_VERSION + 1}, this cellstream reads version {NOTE_VERSION}.*upgrades",
    ),
    "note of another partition": (
        lambda _: lambda: former_partitions([NEWER_NOTE]), StateRefused, "partition 2: .*a newer one has committed"
    ),
    "note of rekey": (lambda _: rekeyed, StateRefused, f"is of version {NOTE_VERSION + 1}"),
    "artifact": (
        newer_manifest,
        ArtifactRefused,
        f"format version {ARTIFACT_VERSION + 1}, this cellstream reads 1 to {ARTIFACT_VERSION}: use the",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEWER)
def test_a_newer_version_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, error, words = NEWER[kind]
    read = make(tmp_path)
    with pytest.raises(error, match=words) as refused:
        read()
    assert refused.value.exit_code == 3  # type: ignore[attr-defined]


def test_a_newer_pointer_is_passed_over_by_name() -> None:
    stored = json.loads((HERE / NEWEST / "newest.json").read_bytes())
    newer = json.dumps({**stored, "format": POINTER_FORMAT + 1}).encode()
    assert Pointer.decode(newer) is None
    assert problem(newer) == f"of format {POINTER_FORMAT + 1}, this cellstream reads {POINTER_FORMAT}"


def test_checkpoints_of_a_newer_version_outlive_a_worker_that_cannot_read_them(tmp_path: Path) -> None:
    artifact = read_artifact(HERE / NEWEST / "artifact")
    found = store_of(NEWEST, "plain", artifact)
    snapshot = found.read(only(found))
    newer_checkpoint(tmp_path, "plain", raise_version)
    store = CheckpointStore(str(tmp_path / "plain"), GROUP, artifact.manifest.state_layout)
    newer = only(store)
    written = [store.write(_at(snapshot, offset)) for offset in (OFFSET - 5, OFFSET - 2)]
    with pytest.raises(CheckpointOfNewerVersion):
        store.read(newer)  # as a worker does that has gone back, before it takes the one at OFFSET - 2
    assert store.collect(TOPIC, 0, committed=OFFSET + 5, keep=2) == []
    written.append(store.write(_at(snapshot, OFFSET + 5)))
    assert store.collect(TOPIC, 0, committed=OFFSET + 5, keep=2) == [written[0]]
    assert newer in store.refs(TOPIC, 0)


def _at(snapshot: Any, offset: int) -> Any:
    from dataclasses import replace

    return replace(snapshot, next_offset=offset)
