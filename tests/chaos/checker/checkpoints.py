"""Checkpoint files against the reference state: which streams are open at their offset, where they stand, their state.

A file is read with h5py alone, after its digest; what cannot be loaded is passed over here as the worker must pass it
over. The bookkeeping is compared exactly, the recurrent states with Keras: a state is not bounded as a probability is,
so a little more than the certificate's tolerance is allowed, and any wrong stream or timestep is far beyond it. To the
bit are compared all files of one offset with each other, and with those of an undisturbed run.

    checkpoint      a file that can be loaded is not the state at its offset
    unlike          two files of the same offset differ
    ahead           at rest, a file is of an offset that is not committed
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.chaos.checker.contract import Partition
from tests.chaos.checker.keras_reference import Answers
from tests.chaos.checker.records import Input, Rules, Violation

FORMAT_VERSIONS = (1, 2)
NAME = re.compile(r"(\d{20})-([0-9a-f]{64})\.h5")
COLUMNS = ("timesteps", "starts", "start_samples", "times", "offsets")
STATE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Row:
    """One stream: its columns as in `COLUMNS`, and its state by slot (layer, name)."""

    columns: tuple[int, ...]
    states: Mapping[tuple[str, str], NDArray[np.float32]]

    def same(self, other: Row) -> bool:
        """Equal to the bit."""
        return self.columns == other.columns and all(
            np.array_equal(state, other.states[slot], equal_nan=True) for slot, state in self.states.items()
        )


@dataclass(frozen=True)
class Checkpoint:
    """A loaded file."""

    name: str
    partition: int
    offset: int
    stream_time_ms: int
    rows: Mapping[bytes, Row]


@dataclass(frozen=True)
class StateAt:
    """The streams of a partition at an offset, by the contract: columns, and the name of the open sequence."""

    stream_time_ms: int
    streams: Mapping[bytes, tuple[tuple[int, ...], str]]


def load_all(files: Iterable[Path], digest: str | None = None) -> Iterator[Checkpoint]:
    """The checkpoints that can be loaded, each file's content once.

    Args:
        files: PARTITION/NAME each; others are passed over.
        digest: of the artifact; those of another one are passed over. None takes any.
    """
    seen: set[tuple[str, str]] = set()
    for file in sorted(files):
        named = NAME.fullmatch(file.name)
        if named is None or not file.parent.name.isdigit() or (file.parent.name, file.name) in seen:
            continue
        try:
            content = file.read_bytes()
        except OSError:
            continue  # collected a moment ago, or harmed by the test
        if hashlib.sha256(content).hexdigest() != named[2]:
            continue
        with h5py.File(file, "r") as h5:
            if h5.attrs["format_version"] not in FORMAT_VERSIONS:
                continue
            if digest is not None and _text(h5.attrs["artifact_digest"]) != digest:
                continue
            seen.add((file.parent.name, file.name))
            yield _load(h5, file.name, int(file.parent.name), int(named[1]))


def states_at(inputs: Iterable[Input], offsets: Mapping[int, set[int]], rules: Rules) -> dict[tuple[int, int], StateAt]:
    """What each partition remembers at some offsets, by the contract.

    Args:
        inputs: those that were not refused, each partition in offset order.
        offsets: by partition.
        rules: of the deployment.
    """
    partitions = {number: Partition(number, rules) for number in offsets}
    waiting = {number: sorted(wanted, reverse=True) for number, wanted in offsets.items()}
    found: dict[tuple[int, int], StateAt] = {}

    def note(number: int, reached: float) -> None:
        while waiting[number] and waiting[number][-1] <= reached:
            partition, offset = partitions[number], waiting[number].pop()
            partition.reach(offset)
            streams = {
                stream: ((o.length, o.start, o.start_sample, o.time_ms, o.offset), partition.name(o))
                for stream, o in partition.live.items()
            }
            found[number, offset] = StateAt(partition.time_ms, streams)

    for record in inputs:
        if record.partition in partitions:
            note(record.partition, record.offset)
            partitions[record.partition].feed(record)
    for number in partitions:
        note(number, float("inf"))
    return found


def held(checkpoint: Checkpoint, expected: StateAt, answers: Answers | None, with_times: bool) -> list[Violation]:
    """A checkpoint against the state at its offset.

    Args:
        checkpoint: as loaded.
        expected: by the contract.
        answers: Keras' states; None compares the bookkeeping alone.
        with_times: the inputs' timestamps are known.
    """

    def broken(words: str) -> list[Violation]:
        source = (checkpoint.partition, checkpoint.offset)
        return [Violation("checkpoint", source, f"{checkpoint.name[:30]}...: {words}")]

    if missing := expected.streams.keys() - checkpoint.rows.keys():
        return broken(f"{len(missing)} streams are missing, such as {min(missing)!r}")
    if foreign := checkpoint.rows.keys() - expected.streams.keys():
        return broken(f"{len(foreign)} streams are not open there, such as {min(foreign)!r}")
    if with_times and checkpoint.stream_time_ms != expected.stream_time_ms:
        return broken(f"the partition's time is {checkpoint.stream_time_ms}, expected {expected.stream_time_ms}")
    for stream, (columns, sequence) in expected.streams.items():
        row = checkpoint.rows[stream]
        for name, found, wanted in zip(COLUMNS, row.columns, columns, strict=True):
            if found != wanted and (with_times or name != "times"):
                return broken(f"{name} of stream {stream!r} is {found}, expected {wanted}")
        for slot, state in row.states.items():
            by_sequence = {} if answers is None else answers.states.get(slot, {})
            if sequence in by_sequence:
                wanted_state = by_sequence[sequence][columns[0] - 1]
                if not np.allclose(state.ravel(), wanted_state, STATE_TOLERANCE, STATE_TOLERANCE, equal_nan=True):
                    apart = np.abs(state.ravel() - wanted_state).max()
                    return broken(f"{'/'.join(slot)} of stream {stream!r} is {apart:.2g} away from Keras")
    return []


def alike(checkpoints: Iterable[Checkpoint]) -> list[Violation]:
    """All files of one offset hold the same, to the bit, whoever wrote them and after whatever."""
    first: dict[tuple[int, int], Checkpoint] = {}
    violations = []
    for checkpoint in checkpoints:
        place = checkpoint.partition, checkpoint.offset
        other = first.setdefault(place, checkpoint)
        streams = checkpoint.rows.keys() ^ other.rows.keys() or {
            stream for stream, row in checkpoint.rows.items() if not row.same(other.rows[stream])
        }
        if streams:
            words = f"{checkpoint.name[:30]}... differs from another file in {len(streams)} streams: {min(streams)!r}"
            violations.append(Violation("unlike", place, words))
    return violations


def _load(h5: Any, name: str, partition: int, offset: int) -> Checkpoint:
    assert (h5.attrs["partition"], h5.attrs["next_offset"]) == (partition, offset), f"{name} is not what it is called"
    bounds, blob = h5["ids/offsets"][()].tolist(), h5["ids/blob"][()].tobytes()
    columns = list(zip(*(h5[column][()].tolist() for column in COLUMNS), strict=True))
    slots = [h5["states"][str(index)] for index in range(len(h5["states"]))]
    states = {(_text(slot.attrs["layer"]), _text(slot.attrs["name"])): slot[()] for slot in slots}
    rows = {
        blob[bounds[i] : bounds[i + 1]]: Row(columns[i], {slot: values[i] for slot, values in states.items()})
        for i in range(len(columns))
    }
    return Checkpoint(name, partition, offset, int(h5.attrs["stream_time"]), rows)


def _text(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, bytes) else str(value)
