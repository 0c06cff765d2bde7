"""Input that nobody trusts, made by the million: what reads it may refuse it, and nothing else.

    python -m tests.security.fuzz --count 1000000 [--target checkpoint] [--seed 7]

Each target takes bytes that were damaged, spliced or made up, and raises when its law does not hold. The long run adds
what a test of a moment cannot see: a call that never returns ends the process with the place where it was, and memory
that grows between the first tenth and the end is a failure. The seed of every round is printed with its failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.checkpoints.snapshots import LAYOUT, make_snapshot
from worker.artifact import MANIFEST_NAME, MODEL_NAME, read_artifact
from worker.checkpoint.file import write_file
from worker.checkpoint.reader import read_file
from worker.codecs import Codec, Float32Codec, JsonCodec, MsgpackCodec
from worker.errors import ArtifactRefused, CheckpointDamaged
from worker.model.keras_file import open_model
from worker.reading import Reader
from worker.records import RecordBatch

FEATURES = ["x", "y", "z"]
MAX_BYTES, MAX_SAMPLES = 2_000, 20
ROUND = 2_000  # examples; a new round forgets what the last one learnt, which would grow with every example
HANGS_AFTER_S = 60
GROWS_BY_MB = 64
FIRST_BYTES = 4_096  # where the structure of a small HDF5 file is

Check = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """Bytes that are read somewhere, and the reading of them, which raises when a law is broken."""

    inputs: st.SearchStrategy[bytes]
    check: Check


def damaged(good: bytes, first: int | None = None) -> st.SearchStrategy[bytes]:
    """A sound input with a few edits: bytes changed, cut out, repeated, put in, or all that follows lost."""
    place = st.integers(0, min(len(good), first or len(good)) - 1)
    edit = st.tuples(
        st.sampled_from(["set", "cut", "repeat", "insert", "end"]), place, st.binary(min_size=1, max_size=9)
    )
    return st.lists(edit, min_size=1, max_size=5).map(lambda edits: _edited(good, edits))


def _edited(good: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    content = good
    for kind, at, piece in edits:
        head, tail = content[:at], content[at:]
        width = len(piece)
        content = {
            "set": head + piece + tail[width:],
            "cut": head + tail[width:],
            "repeat": head + tail[:width] * 9 + tail,
            "insert": head + piece + tail,
            "end": head,
        }[kind]
    return content


def values() -> st.SearchStrategy[Any]:
    """What JSON and MessagePack can say, with the names that a sample has."""
    names = st.sampled_from(
        [*FEATURES, "features", "samples", "timestep", "end_of_sequence", "start_of_sequence", "id"]
    )
    plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner, max_size=5))


def encoded(encode: Callable[[Any], bytes], *good: Any) -> st.SearchStrategy[bytes]:
    """Anything in a format, damaged samples in it, and any bytes at all."""
    return st.one_of(values().map(encode), *(damaged(encode(one)) for one in good), st.binary(max_size=100))


SAMPLES = ({"features": [1, 2, 3], "timestep": 4}, {"samples": [[1, 2, 3]] * 3, "id": "s"}, {"x": 1, "y": 2, "z": 3.5})


def codec_target(codec: Codec, inputs: st.SearchStrategy[bytes], good: bytes) -> Target:
    """A value is samples or a dead letter, whatever stands around it, and its neighbours stay what they are."""
    reader = Reader(codec, "field:id" if not isinstance(codec, Float32Codec) else "key")
    alone = codec.decode([good]).inputs

    def check(value: bytes) -> None:
        batch = RecordBatch(0, [b"k"] * 3, [good, value, good], [0, 1, 2], [5] * 3, [None, [("h", value)], None], -1)
        reading = reader.read(batch)
        counts = reading.counts.tolist()
        assert counts[0] == counts[2] == 1
        assert counts[1] <= MAX_SAMPLES
        assert np.isfinite(reading.inputs).all()
        assert reading.inputs.shape == (sum(counts), len(FEATURES))
        assert (reading.inputs[[0, -1]] == alone).all()
        assert (1 in reading.bad) <= (counts[1] == 0)
        assert set(reading.bad) <= {1}
        if 1 in reading.bad:
            assert len(str(reading.bad[1])) < 1_000  # it becomes a header and a line of log

    return Target(inputs, check)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _msgpack(value: Any) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(value)


def expect_short(fault: Exception) -> None:
    """What is said of an input is for a person to read, however long the input was."""
    assert len(str(fault)) < 10_000


def manifest_target(directory: Path, manifest: bytes) -> Target:
    """A manifest is read or refused."""
    path = directory / MANIFEST_NAME

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_artifact(directory)
        except ArtifactRefused as fault:
            expect_short(fault)

    known = json.loads(manifest)
    names = st.sampled_from(sorted(known))
    changed = st.tuples(names, values()).map(lambda change: _json({**known, change[0]: change[1]}))
    return Target(st.one_of(damaged(manifest), changed, values().map(_json)), check)


def model_target(model: bytes) -> Target:
    """A model file is handed to Keras or refused, damaged as a whole or in one of its members."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def packed(name: str, content: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for member, sound in members.items():
                archive.writestr(member, content if member == name else sound)
        return out.getvalue()

    def check(content: bytes) -> None:
        with patch("keras.saving.load_model"):  # what passes; Keras' own reading is Keras' to test
            try:
                open_model(content, "fuzz")
            except ArtifactRefused as fault:
                expect_short(fault)

    inside = [
        damaged(content, FIRST_BYTES).map(lambda new, name=name: packed(name, new)) for name, content in members.items()
    ]
    return Target(st.one_of(damaged(model), *inside, st.binary(max_size=100)), check)


def checkpoint_target() -> Target:
    """A checkpoint file that somebody made, so that its digest fits, is read or refused."""
    file = io.BytesIO()
    write_file(file, make_snapshot(), LAYOUT)
    sound = file.getvalue()

    def check(content: bytes) -> None:
        for layout in (LAYOUT, None):
            try:
                found = read_file(io.BytesIO(content), layout, "fuzz")
            except CheckpointDamaged as fault:
                expect_short(fault)
            else:
                assert len(found.stream_ids) == len(found.states) <= len(content)

    return Target(st.one_of(damaged(sound, FIRST_BYTES), damaged(sound), st.binary(max_size=100)), check)


@contextmanager
def all_targets() -> Iterator[dict[str, Target]]:
    """Every target by its name; an artifact is made for those that read one."""
    from tests.deployment import make_artifact

    with tempfile.TemporaryDirectory() as scratch:
        directory = make_artifact(Path(scratch) / "artifact")
        yield targets(directory)


def targets(directory: Path) -> dict[str, Target]:
    """Every target by its name.

    Args:
        directory: an artifact, whose manifest is overwritten.
    """
    bounds = MAX_BYTES, MAX_SAMPLES
    good = SAMPLES[0]
    vector = np.arange(3, dtype="<f4").tobytes()
    return {
        "json": codec_target(JsonCodec(FEATURES, *bounds, "id"), encoded(_json, *SAMPLES), _json(good)),
        "msgpack": codec_target(MsgpackCodec(FEATURES, *bounds, "id"), encoded(_msgpack, *SAMPLES), _msgpack(good)),
        "float32": codec_target(Float32Codec(3, *bounds), st.binary(max_size=MAX_BYTES + 1), vector),
        "manifest": manifest_target(directory, (directory / MANIFEST_NAME).read_bytes()),
        "model": model_target((directory / MODEL_NAME).read_bytes()),
        "checkpoint": checkpoint_target(),
    }  # fmt: skip


def run(target: Target, examples: int, number: int) -> None:
    """One round of examples, which a number determines."""
    unhurried = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @seed(number)
    @unhurried
    @given(target.inputs)
    def law(content: bytes) -> None:
        target.check(content)

    law()


def main() -> int:
    """Run rounds until the count is reached; 1 when a law was broken or memory grew."""
    parser = argparse.ArgumentParser(description="Fuzz what reads input that nobody trusts.")
    parser.add_argument("--count", type=int, default=100_000, help="inputs of each target")
    parser.add_argument("--target", action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with all_targets() as known:
        for name in arguments.target or known:
            began, done, round_number, early_mb = time.monotonic(), 0, arguments.seed, 0.0
            while done < arguments.count:
                examples = min(ROUND, arguments.count - done)
                faulthandler.dump_traceback_later(HANGS_AFTER_S + examples, exit=True)
                try:
                    run(known[name], examples, round_number)
                except Exception:
                    print(f"{name}: round of seed {round_number} broke the law", file=sys.stderr)
                    raise
                done, round_number = done + examples, round_number + 1
                if not early_mb and done >= arguments.count / 10:
                    early_mb = memory_mb()
            faulthandler.cancel_dump_traceback_later()
            grown_mb = memory_mb() - early_mb
            print(f"{name}: {done:,} inputs in {time.monotonic() - began:.0f} s, memory {grown_mb:+.1f} MB", flush=True)
            if grown_mb > GROWS_BY_MB:
                print(f"{name}: memory grew by more than {GROWS_BY_MB} MB", file=sys.stderr)
                return 1
    return 0


def memory_mb() -> float:
    """Of this process, resident."""
    return float(psutil.Process().memory_info().rss) / 2**20


if __name__ == "__main__":
    sys.exit(main())
