"""Checkpoint files are held against Keras and against each other; what cannot be loaded is passed over."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.chaos.checker.checkpoints import Checkpoint, alike, held, load_all, states_at
from tests.chaos.checker.expected import expect
from tests.chaos.checker.keras_reference import keras_reference
from tests.chaos.checker.records import Input, Rules, Violation
from tests.chaos.checker.report import report
from worker.artifact import read_artifact
from worker.checkpoint.file import Snapshot, write_file

OFFSET = 150


def log(seed: int = 3) -> list[Input]:
    """A partition with some streams, all kinds of ends, and timestamps."""
    random = Random(seed)
    inputs = []
    for offset in range(200):
        sample = tuple(round(random.gauss(0, 1), 4) for _ in range(3))
        is_sample, is_end = random.choices([(True, False), (True, True), (False, True)], [20, 1, 1])[0]
        stream, time_ms = f"stream-{random.randrange(6)}".encode(), 1000 + offset + random.randint(-5, 5)
        samples = (sample,) if is_sample else ()
        inputs.append(Input(0, offset, stream, is_sample, is_end, samples=samples, time_ms=time_ms, refused=False))
    return inputs


def snapshot_of(artifact: Path, inputs: list[Input]) -> Snapshot:
    """The state that a worker must have, made from the contract and Keras."""
    expected = states_at(inputs, {0: {OFFSET}}, Rules())[0, OFFSET]
    answers = keras_reference(artifact).answers(expect(inputs, (), Rules()).samples)
    states = np.stack(
        [
            np.concatenate([by_sequence[name][columns[0] - 1] for by_sequence in answers.states.values()])
            for columns, name in expected.streams.values()
        ]
    )
    columns = np.array([columns for columns, _ in expected.streams.values()], np.int64).T.copy()
    facts: dict[str, Any] = {"topic": "samples", "topic_id": "id", "partition": 0, "next_offset": OFFSET}
    facts |= {"leader_epoch": 0, "artifact_digest": read_artifact(artifact).digest, "created_ms": 1}
    names = ("timesteps", "starts", "start_samples", "times", "offsets")
    return Snapshot(
        **facts,
        stream_time=expected.stream_time_ms,
        stream_ids=list(expected.streams),
        states=states,
        **dict(zip(names, columns, strict=True)),
    )


def written(snapshot: Snapshot, artifact: Path, directory: Path) -> Path:
    content = io.BytesIO()
    write_file(content, snapshot, read_artifact(artifact).manifest.state_layout)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = directory / "0" / f"{OFFSET:020d}-{digest}.h5"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.getvalue())
    return path


def loaded(snapshot: Snapshot, artifact: Path, directory: Path) -> Checkpoint:
    (checkpoint,) = load_all([written(snapshot, artifact, directory)], read_artifact(artifact).digest)
    return checkpoint


def verdict(checkpoint: Checkpoint, artifact: Path) -> str:
    inputs = log()
    answers = keras_reference(artifact).answers(expect(inputs, (), Rules()).samples)
    return " ".join(
        v.words for v in held(checkpoint, states_at(inputs, {0: {OFFSET}}, Rules())[0, OFFSET], answers, True)
    )


def swapped(snapshot: Snapshot) -> Snapshot:
    states = snapshot.states.copy()
    states[:2] = states[1::-1]
    return replace(snapshot, states=states)


def forgotten(snapshot: Snapshot) -> Snapshot:
    names = ("states", "timesteps", "starts", "start_samples", "times", "offsets")
    kept = {name: getattr(snapshot, name)[1:] for name in names}
    return replace(snapshot, stream_ids=snapshot.stream_ids[1:], **kept)


DAMAGES: dict[str, tuple[Callable[[Snapshot], Snapshot], str]] = {
    "two states swapped": (swapped, "away from Keras"),
    "a stream forgotten": (forgotten, "1 streams are missing"),
    "a stream too many": (
        lambda s: replace(s, stream_ids=[b"somebody else", *s.stream_ids[1:]]),
        "1 streams are missing",
    ),
    "a timestep lost": (lambda s: replace(s, timesteps=s.timesteps - 1), "timesteps of stream"),
    "another start": (lambda s: replace(s, starts=s.starts + (s.starts == s.starts.max())), "starts of stream"),
    "another time": (lambda s: replace(s, times=s.times - 1), "times of stream"),
    "another clock": (lambda s: replace(s, stream_time=s.stream_time + 1), "the partition's time"),
    "h and c exchanged": (lambda s: replace(s, states=np.roll(s.states, 8, axis=1)), "away from Keras"),
}


def test_the_reference_state_itself_holds(artifact: Path, tmp_path: Path) -> None:
    assert verdict(loaded(snapshot_of(artifact, log()), artifact, tmp_path), artifact) == ""


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_of_a_state_is_found_and_named(artifact: Path, tmp_path: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    assert words in verdict(loaded(change(snapshot_of(artifact, log())), artifact, tmp_path), artifact)


def test_the_last_bit_of_a_state_tells_two_files_of_one_offset_apart(artifact: Path, tmp_path: Path) -> None:
    snapshot = snapshot_of(artifact, log())
    first = loaded(snapshot, artifact, tmp_path)
    states = snapshot.states.copy()
    states.view(np.uint32)[2, 3] ^= 1
    second = loaded(replace(snapshot, states=states), artifact, tmp_path)
    assert verdict(second, artifact) == ""
    assert alike([first, first]) == []
    assert [violation.law for violation in alike([first, second])] == ["unlike"]
    assert snapshot.stream_ids[2].decode() in alike([first, second])[0].words


def test_what_cannot_be_loaded_is_passed_over(artifact: Path, tmp_path: Path) -> None:
    snapshot = snapshot_of(artifact, log())
    path = written(snapshot, artifact, tmp_path)
    path.with_name(f"{OFFSET:020d}-{'0' * 64}.h5").write_bytes(path.read_bytes())
    path.with_name(".tmp-123").write_bytes(b"")
    written(replace(snapshot, artifact_digest="f" * 64), artifact, tmp_path)
    files = list(tmp_path.glob("0/*"))
    assert len(files) == 4
    assert [checkpoint.name for checkpoint in load_all(files, read_artifact(artifact).digest)] == [path.name]
    path.write_bytes(path.read_bytes()[:-1])
    assert list(load_all(files, read_artifact(artifact).digest)) == []


def test_the_report_shows_the_first_violation_and_what_workers_said_around_it(tmp_path: Path) -> None:
    noon = datetime(2025, 11, 21, 12, 0, 0).timestamp()
    console = "".join(f"12:00:{second:02d}.000000 [info] event-{second}\n" for second in range(30))
    stamp = datetime.fromtimestamp(noon + 9.5).astimezone().isoformat()
    (tmp_path / "00-worker-0.log").write_text(console + "Traceback of the last\n")
    (tmp_path / "01-worker-1.log").write_text(f'{{"timestamp":"{stamp}","event":"assigned"}}\n')
    violations = [Violation("doubled", (1, 7), "2 outputs", noon + 20), Violation("missing", (0, 5), "none", noon + 10)]
    told = report(violations, sorted(tmp_path.glob("*.log")))
    assert "the first: missing at input 0-5, 12:00:10" in told
    assert "1 doubled" in told
    assert "also: doubled at input 1-7" in told
    shown = [second for second in range(30) if f"event-{second}\n" in told]
    assert shown == list(range(3, 12))
    assert '"event":"assigned"' in told
    assert report([], []) == ""
