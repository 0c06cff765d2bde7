"""What stands in artifacts, checkpoint stores, registries and committed offsets: it is read or refused."""

from __future__ import annotations

import json
import random
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch
from zipfile import ZipFile

from hypothesis import strategies as st

from tests.checkpoints.snapshots import LAYOUT, make_snapshot
from tests.security.fuzz.making import Mutate, Target, damaged, expect_short, trees
from tests.security.fuzz.trees import within
from tests.security.fuzz.values import AVRO
from worker.artifact import MANIFEST_NAME, MODEL_NAME, read_artifact
from worker.checkpoint.file import write_file
from worker.checkpoint.packing import Packing
from worker.checkpoint.reader import read_file
from worker.codecs.avro import avro_transcoder
from worker.errors import ArtifactRefused, BadRecord, CheckpointDamaged, CheckpointOfNewerVersion, StateRefused
from worker.model.keras_file import UNREADABLE, open_model
from worker.records import Position
from worker.recovery.note import Note
from worker.registry.client import Registry, header

FIRST_BYTES = 4_096  # where the structure of a small HDF5 file is
MAX_UNPACKED = 100_000
MOST_OF_A_VALUE = 1_000_000  # characters of what a value of a few bytes may become
KEY = bytes(range(32))
SCHEMAS = (
    AVRO,
    {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]},
    {"type": "array", "items": {"type": "fixed", "name": "Nothing", "size": 0}},
    {"type": "bytes", "logicalType": "decimal", "precision": 9},
)
SCHEMA_NAMES = ["type", "name", "fields", "items", "values", "symbols", "size", "logicalType", "namespace", "default"]
NOTES = (
    Note(0, "0bdb1f9d2ae3", "3Jc5hV2kQ1uJ8yqEo0m3Rg", 4, "0,17:0-4210"),
    Note(None, "0bdb1f9d2ae3", "", None),
    "cellstream/2 x",
)


def targets(directory: Path) -> dict[str, Target]:
    """Every target by its name.

    Args:
        directory: an artifact, whose manifest is overwritten.
    """
    file = BytesIO()
    write_file(file, make_snapshot(), LAYOUT)
    return {
        "manifest": _manifest_target(directory, (directory / MANIFEST_NAME).read_bytes()),
        "model": _model_target((directory / MODEL_NAME).read_bytes()),
        "checkpoint": _checkpoint_target(file.getvalue()),
        "packed": _packed_target(file.getvalue()),
        "schema": _schema_target(),
        "note": _note_target(),
    }


def _manifest_target(directory: Path, manifest: bytes) -> Target:
    path = directory / MANIFEST_NAME

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_artifact(directory)
        except ArtifactRefused as fault:
            expect_short(fault)

    known = json.loads(manifest)
    any_value = trees([*known, "kind", "threshold"])
    changed = st.tuples(st.sampled_from(sorted(known)), any_value).map(lambda change: {**known, change[0]: change[1]})
    drawn = st.one_of(damaged(manifest), changed.map(_json), any_value.map(_json))
    return Target(drawn, check, within(json.loads, _json, [*known]))


def _model_target(model: bytes) -> Target:
    """A model file is handed to Keras or refused, damaged as a whole or in one of its members."""

    def check(content: bytes) -> None:
        with patch("keras.saving.load_model"):  # what passes; Keras' own reading is Keras' to test
            try:
                open_model(content, "fuzz")
            except ArtifactRefused as fault:
                expect_short(fault)

    def packed(members: dict[str, bytes]) -> bytes:
        out = BytesIO()
        with ZipFile(out, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return out.getvalue()

    def inside(content: bytes, mutate: Mutate, number: int) -> bytes:
        try:
            with ZipFile(BytesIO(content)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
        except UNREADABLE:
            members = {}
        chosen = random.Random(number).choice([None, *members])
        return mutate(content) if chosen is None else packed({**members, chosen: mutate(members[chosen])})

    with ZipFile(BytesIO(model)) as archive:
        sound = {name: archive.read(name) for name in archive.namelist()}
    in_a_member = [
        damaged(content, FIRST_BYTES).map(lambda new, name=name: packed({**sound, name: new}))
        for name, content in sound.items()
    ]
    return Target(st.one_of(damaged(model), *in_a_member, st.binary(max_size=100)), check, inside)


def _checkpoint_target(sound: bytes) -> Target:
    """A checkpoint file that somebody made, so that its digest fits."""

    def check(content: bytes) -> None:
        for layout in (LAYOUT, None):
            try:
                found = read_file(BytesIO(content), layout, "fuzz")
            except CheckpointDamaged as fault:
                expect_short(fault)
            else:
                assert len(found.stream_ids) == len(found.states) <= len(content)

    return Target(st.one_of(damaged(sound, FIRST_BYTES), damaged(sound), st.binary(max_size=100)), check)


def _packed_target(sound: bytes) -> Target:
    """What a packed file becomes is never more than it may be."""
    packings = [Packing(compress=True), Packing(compress=True, keys=[KEY]), Packing(keys=[KEY])]

    def packed(packing: Packing) -> bytes:
        out = BytesIO()
        packing.pack(BytesIO(sound), out)
        return out.getvalue()

    def check(content: bytes) -> None:
        try:
            with packings[1].unpacked(BytesIO(content), MAX_UNPACKED) as plain:
                found = plain.read()
        except (CheckpointDamaged, CheckpointOfNewerVersion) as fault:
            expect_short(fault)
        else:
            assert len(found) <= max(MAX_UNPACKED, len(content))

    good = [packed(packing) for packing in packings]
    return Target(st.one_of(*(damaged(one, 100) for one in good), *map(damaged, good)), check)


def _schema_target() -> Target:
    """A schema is refused, or reads values without running away."""
    registry = cast(Registry, SimpleNamespace())
    values = [header(1) + body for body in (b"", b"\0" * 20, b"\2" * 20, b"\xff" * 20, bytes(range(200)))]

    def check(content: bytes) -> None:
        schema = SimpleNamespace(schema_str=content.decode(errors="replace"), references=None)
        try:
            transcode = avro_transcoder(schema, registry)
        except BadRecord as fault:
            expect_short(fault)
            return
        for value in values:
            try:
                assert len(transcode(value)) < MOST_OF_A_VALUE
            except BadRecord as fault:
                expect_short(fault)

    drawn = st.one_of(_avro_schemas(), *map(st.just, SCHEMAS)).map(_json)
    return Target(st.one_of(drawn, drawn.flatmap(damaged)), check, within(json.loads, _json, SCHEMA_NAMES))


def _avro_schemas() -> st.SearchStrategy[Any]:
    """Schemas as Avro's words have them; some say a name twice, or one that is nobody's."""
    names = st.sampled_from(["A", "B", "C"])
    plain = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string", "A", "B"])
    fixed = st.builds(lambda name, size: {"type": "fixed", "name": name, "size": size}, names, st.integers(-1, 9))

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        fields = st.lists(inner, max_size=4).map(
            lambda kinds: [{"name": f"f{i}", "type": t} for i, t in enumerate(kinds)]
        )
        return st.one_of(
            inner.map(lambda items: {"type": "array", "items": items}),
            inner.map(lambda values: {"type": "map", "values": values}),
            st.lists(inner, max_size=3),
            st.builds(lambda name, found: {"type": "record", "name": name, "fields": found}, names, fields),
        )

    return st.recursive(plain | fixed, around, max_leaves=12)


def _note_target() -> Target:
    """What is committed beside an offset is a note, somebody else's, or refused."""

    def check(content: bytes) -> None:
        try:
            Note.of(Position(0, 5, content.decode(errors="replace")))
        except StateRefused as fault:
            expect_short(fault)

    return Target(st.one_of(*(damaged(str(note).encode()) for note in NOTES), st.binary(max_size=100)), check)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
