"""Checkpoints as a person or a script looks at them: verdicts, single streams, whole exports."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import msgspec
import numpy as np

from worker.checkpoint import CheckpointRef, CheckpointStore, Snapshot
from worker.errors import CheckpointDamaged
from worker.logs import printable


@dataclass(frozen=True)
class Contents:
    """What is worth knowing of a sound checkpoint; `age_s` is from its creation until now."""

    streams: int
    state_size: int
    stream_time: int
    created_ms: int
    age_s: float
    model: str
    topic_id: str


@dataclass(frozen=True)
class Examined:
    """A checkpoint file after it was read: its contents, or what is wrong with it."""

    ref: CheckpointRef
    contents: Contents | None
    damage: str | None

    def as_dict(self) -> dict[str, Any]:
        """Flat, for JSON."""
        ref = self.ref
        flat: dict[str, Any] = {"partition": ref.partition, "next_offset": ref.next_offset}
        flat |= {"size_bytes": ref.size_bytes, "path": ref.path, "valid": self.contents is not None}
        return flat | (asdict(self.contents) if self.contents else {"damage": self.damage})


def examine(store: CheckpointStore, ref: CheckpointRef, now_s: float) -> Examined:
    """Read a checkpoint and judge it; wall-clock seconds `now_s` give its age."""
    try:
        snapshot = store.read(ref)
    except CheckpointDamaged as fault:
        return Examined(ref, None, str(fault))
    contents = Contents(
        streams=len(snapshot.stream_ids),
        state_size=snapshot.states.shape[1],
        stream_time=snapshot.stream_time,
        created_ms=snapshot.created_ms,
        age_s=max(0.0, round(now_s - snapshot.created_ms / 1000, 3)),
        model=snapshot.artifact_digest[:12],
        topic_id=snapshot.topic_id,
    )
    return Examined(ref, contents, None)


def newest(store: CheckpointStore, topic: str, partition: int) -> Snapshot | None:
    """The newest checkpoint of a partition that can be read."""
    for ref in store.refs(topic, partition):
        try:
            return store.read(ref)
        except CheckpointDamaged:
            continue
    return None


def find_stream(store: CheckpointStore, topic: str, partition: int, stream_id: bytes) -> Iterator[dict[str, Any]]:
    """The row of a stream in a partition's newest checkpoint, if it has one."""
    snapshot = newest(store, topic, partition)
    if snapshot is not None and stream_id in snapshot.stream_ids:
        row = snapshot.stream_ids.index(stream_id)
        yield next(_rows(snapshot, [row])) | {
            "next_offset": snapshot.next_offset,
            "model": snapshot.artifact_digest[:12],
        }


def export_streams(
    store: CheckpointStore, topic: str, partitions: list[int], output: TextIO, *, states: bool, as_json: bool
) -> None:
    """Write every stream of the newest checkpoints, one line each.

    IDs are written as they are, but escaped when the output is a terminal.

    Args:
        store: with any layout.
        topic: input topic.
        partitions: which of its partitions.
        output: receives CSV with a header, or NDJSON.
        states: add the state vector, a list in NDJSON and one column per element in CSV.
        as_json: NDJSON instead of CSV.
    """
    table: Any = None
    for partition in partitions:
        snapshot = newest(store, topic, partition)
        if snapshot is None:
            continue
        vectors = snapshot.states if states else snapshot.states[:, :0]
        for row, vector in zip(_rows(snapshot, range(len(snapshot.stream_ids)), output.isatty()), vectors, strict=True):
            if as_json:
                line = row | {"state": vector.tolist()} if states else row
                output.write(msgspec.json.encode(line).decode() + "\n")
                continue
            if table is None:
                table = csv.writer(output, lineterminator="\n")
                table.writerow([*row, *(f"state_{i}" for i in range(len(vector)))])
            table.writerow([*row.values(), *vector.tolist()])


def _rows(snapshot: Snapshot, rows: Iterable[int], escaped: bool = False) -> Iterator[dict[str, Any]]:
    for row in rows:
        start, sample = int(snapshot.starts[row]), int(snapshot.start_samples[row])
        stream_id = snapshot.stream_ids[row]
        yield {
            "stream_id": printable(stream_id) if escaped else stream_id.decode("utf-8", "backslashreplace"),
            "partition": snapshot.partition,
            "sequence": f"{snapshot.partition}-{start}" + (f".{sample}" if sample else ""),
            "timesteps": int(snapshot.timesteps[row]),
            "start_offset": start,
            "last_offset": int(snapshot.offsets[row]),
            "last_time_ms": int(snapshot.times[row]),
            "state_norm": float(np.linalg.norm(snapshot.states[row])),
        }
