"""A snapshot of a partition's state, and the HDF5 file it is written as; `reader` reads it back.

The file has:
    attributes      format_version, topic, topic_id, partition, next_offset, leader_epoch, artifact_digest,
                    created_ms, stream_time
    ids/blob        (bytes,) uint8: all stream IDs, one after the other
    ids/offsets     (n + 1,) int64: where each begins and ends in the blob
    states/0, ...   (n, *slot.shape) float32, whatever the type of states in memory, one per slot of the state layout;
                    attributes layer and name
    timesteps, starts, start_samples, times, offsets   (n,) int64
    next_timesteps, seen_timesteps   (n,) int64, where the order of timesteps is judged
    last_values     (n, features) float32, where missing numbers become the last ones

A file says the lowest format version by which it can be read: 1, or 2 where it has one of the last three columns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from worker.checkpoint.hdf5_io import UnfailingFile

if TYPE_CHECKING:
    from worker.artifact import StateSlot

FORMAT_VERSION = 2
PLAIN_VERSION = 1
MAX_TEXT = 4096
# Rows copied at a time: few enough for the cache, enough to make the calls few. Each call gives the GIL away and asks
# for it again, and a busy loop is interrupted for it: with 8,192 a write took a third longer beside one.
ROWS = 32_768

# IDs are handled in Python, which holds the GIL, for 1 ms at so many; then the thread sleeps for a moment. Without it
# the loop would wait up to the interpreter's switch interval of 5 ms each time that it wants the GIL (measured: 8 ms).
IDS = 8_192
YIELD_S = 1e-4

NUMBERS = ("partition", "next_offset", "leader_epoch", "created_ms", "stream_time")
TEXTS = ("topic", "topic_id", "artifact_digest")
COLUMNS = ("timesteps", "starts", "start_samples", "times", "offsets")
OPTIONAL = {"next_timesteps": "<i8", "seen_timesteps": "<i8", "last_values": "<f4"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Header:
    """What a checkpoint says of itself; with its streams, which are taken piece by piece, it can be written.

    Attributes:
        topic: input topic.
        topic_id: the broker's ID of the topic, "" when unknown.
        partition: input partition.
        next_offset: last handled + 1.
        leader_epoch: of the last handled record, -1 when unknown.
        artifact_digest: 64 hex digits of the artifact that made the states.
        stream_time: largest record time seen, milliseconds; -1 when none.
        created_ms: wall-clock time at which the snapshot was taken, milliseconds.
    """

    topic: str
    topic_id: str
    partition: int
    next_offset: int
    leader_epoch: int
    artifact_digest: str
    stream_time: int
    created_ms: int


class Streams(Protocol):
    """The streams of a partition at one moment; pieces are taken in any order, by one thread."""

    @property
    def optional(self) -> Sequence[str]:
        """Those of `OPTIONAL` that there are."""

    def __len__(self) -> int:
        """How many."""

    def take_ids(self, start: int, stop: int) -> list[bytes]:
        """IDs of the streams `start` to `stop`."""

    def take(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """The streams `start` to `stop` of `states` or another column; not modified by the caller."""

    def release(self) -> None:
        """Nothing more is taken."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveSnapshot(Header):
    """A partition after the records below `next_offset`, whose streams are taken while it goes on."""

    streams: Streams


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshot(Header):
    """All the memory of one partition after the records below `next_offset`; a `Streams` by itself.

    Attributes:
        stream_ids: n distinct stream IDs.
        states: (n, state_size), in float32 unless they were read to where there is another type.
        timesteps: (n,) int64.
        starts: (n,) int64, offset of the first sample of each stream's sequence.
        start_samples: (n,) int64, index of that sample in its record; 0 but for chunks.
        times: (n,) int64, last record time of each stream, milliseconds.
        offsets: (n,) int64, last record's offset of each stream.
        index: stream ID -> its place in `stream_ids`, of a snapshot that was read.
        extras: the optional columns, by name.
    """

    stream_ids: list[bytes]
    states: npt.NDArray[Any]
    timesteps: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    start_samples: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    index: dict[bytes, int] | None = None
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def optional(self) -> Sequence[str]:
        """Names of `extras`."""
        return tuple(self.extras)

    @property
    def streams(self) -> Snapshot:
        """Itself."""
        return self

    def __len__(self) -> int:
        """Streams."""
        return len(self.stream_ids)

    def take_ids(self, start: int, stop: int) -> list[bytes]:
        """IDs of the streams `start` to `stop`."""
        return self.stream_ids[start:stop]

    def take(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """The streams `start` to `stop` of a column."""
        column: npt.NDArray[Any] = self.extras[name] if name in self.extras else getattr(self, name)
        assert len(column) == len(self), "a column's length is not the stream count"
        return column[start:stop]

    def release(self) -> None:
        """Nothing: nobody changes it."""


AnySnapshot: TypeAlias = Snapshot | LiveSnapshot


def write_file(file: BinaryIO, snapshot: AnySnapshot, layout: Sequence[StateSlot]) -> None:
    """Write a snapshot as HDF5, and release its streams.

    Args:
        file: empty, readable, writable and seekable; best unbuffered.
        snapshot: of which only pieces are in memory at a time.
        layout: the pieces of a state vector, in order and without gaps.

    Raises:
        OSError: the file could not be written.
    """
    streams = snapshot.streams
    width = sum(prod(slot.shape) for slot in layout)
    assert streams.take("states", 0, 0).shape == (0, width), "states do not fit the layout"
    target = UnfailingFile(file)
    with h5py.File(target, "w", libver="v110") as h5:
        version = FORMAT_VERSION if streams.optional else PLAIN_VERSION
        h5.attrs.create("format_version", version, dtype="<i8")
        for name in NUMBERS:
            h5.attrs.create(name, getattr(snapshot, name), dtype="<i8")
        for name in TEXTS:
            _write_text(h5, name, getattr(snapshot, name))
        _write_ids(h5.create_group("ids"), streams)
        _write_states(h5.create_group("states"), streams, layout)
        for name in COLUMNS:
            h5.create_dataset(name, data=_column(streams, name), dtype="<i8")
        for name in streams.optional:
            h5.create_dataset(name, data=_column(streams, name), dtype=OPTIONAL[name])
        streams.release()
    if target.fault is not None:
        raise target.fault


def _write_text(owner: Any, name: str, text: str) -> None:
    """As a string of fixed length: the reader takes no other (see there)."""
    encoded = text.encode()
    assert len(encoded) <= MAX_TEXT, f"{name} is longer than {MAX_TEXT} bytes"
    owner.attrs[name] = np.array(encoded, f"S{max(1, len(encoded))}")


def _write_ids(group: Any, streams: Streams) -> None:
    """In pieces: `join` and `fromiter` over a million IDs would hold the GIL for tens of milliseconds."""
    ends = np.zeros(len(streams) + 1, np.int64)
    joined = []
    for start in range(0, len(streams), IDS):
        piece = streams.take_ids(start, start + IDS)
        ends[start + 1 : start + 1 + len(piece)] = [len(stream_id) for stream_id in piece]
        joined.append(b"".join(piece))
        time.sleep(YIELD_S)
    np.cumsum(ends, out=ends)
    blob = np.empty(int(ends[-1]), np.uint8)
    for start, text in zip(range(0, len(streams), IDS), joined, strict=True):
        blob[ends[start] : ends[start] + len(text)] = np.frombuffer(text, np.uint8)
    group.create_dataset("blob", data=blob)
    group.create_dataset("offsets", data=ends, dtype="<i8")


def _write_states(group: Any, streams: Streams, layout: Sequence[StateSlot]) -> None:
    datasets = []
    for index, slot in enumerate(layout):
        dataset = group.create_dataset(str(index), (len(streams), *slot.shape), "<f4")
        _write_text(dataset, "layer", slot.layer)
        _write_text(dataset, "name", slot.name)
        datasets.append(dataset)
    cuts = cuts_of([prod(slot.shape) for slot in layout])
    assert [slot.offset for slot in layout] == [start for start, _ in cuts], "the state layout has gaps"
    for start in range(0, len(streams), ROWS):
        rows = streams.take("states", start, start + ROWS)  # few enough to stay in the cache for all slots
        for slot, dataset, (begin, end) in zip(layout, datasets, cuts, strict=True):
            dataset[start : start + len(rows)] = rows[:, begin:end].astype("<f4", copy=False).reshape(-1, *slot.shape)


def _column(streams: Streams, name: str) -> npt.NDArray[Any]:
    like = streams.take(name, 0, 0)
    column = np.empty((len(streams), *like.shape[1:]), like.dtype)
    for start in range(0, len(streams), ROWS):
        column[start : start + ROWS] = streams.take(name, start, start + ROWS)
    return column


def cuts_of(widths: list[int]) -> list[tuple[int, int]]:
    """Where each slot's columns begin and end in the flat state vector."""
    return list(pairwise(accumulate(widths, initial=0)))
