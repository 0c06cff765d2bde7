"""Probability events and closing events in Avro, by a schema in which what an event does not have is null."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.encoding.encoder import Answers, Encoder
from worker.encoding.registered import NAME
from worker.registry.client import header
from worker.state.sequences import REASONS, Closing, sequence_id
from worker.varints import zigzag

NULL, THERE = b"\0", b"\2"  # which side of a union [null, X] follows
NO_CLOSING = NULL * 3
UNDECIDED = NULL * 2


def avro_schema(per_record: bool) -> str:
    """The schema of events; with `output_per=record` its numbers are lists."""
    number: Any = ["null", "float"]
    if per_record:
        number = {"type": "array", "items": number}

    def optional(name: str, kind: Any) -> dict[str, Any]:
        return {"name": name, "type": ["null", *(kind if isinstance(kind, list) else [kind])], "default": None}

    fields = [
        {"name": "stream_id", "type": "string"},
        {"name": "sequence", "type": "string"},
        optional("timestep", "long"),
        {"name": "probability", "type": ["null", number] if per_record else number, "default": None},
        optional("probabilities", {"type": "map", "values": number}),
        optional("end_of_sequence", "boolean"),
        optional("reason", "string"),
        optional("length", "long"),
        {"name": "timestamp", "type": "long"},
        {"name": "partition", "type": "int"},
        {"name": "offset", "type": "long"},
        {"name": "model", "type": "string"},
        optional("decision", "string"),
        optional("decision_timestep", "long"),
    ]
    namespace, _, name = NAME.rpartition(".")
    return json.dumps({"type": "record", "name": name, "namespace": namespace, "fields": fields})


class AvroEncoder(Encoder):
    """The events by `avro_schema`; numbers are float32 as the model gave them, null where it gave none."""

    def __init__(self, classes: Sequence[str], model: str, schema_id: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(decisions)
        self._header = header(schema_id)
        self._last = _text(model.encode()) + UNDECIDED
        self._names = [_text(name.encode()) for name in classes]

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """The part of an event that is the same for a whole sequence, with the ID in front."""
        return self._header + _text(stream_id) + _text(sequence_id(partition, start, start_sample))

    def encode(self, answers: Answers) -> list[bytes]:
        """One event for each prefix."""
        counts = answers.counts
        columns = [_numbers(column) for column in np.ascontiguousarray(answers.outputs.T)]
        if counts is not None:
            bounds = answers.bounds()
            columns = [[zigzag(j - i) + b"".join(column[i:j]) + NULL for i, j in bounds] for column in columns]
        if len(self._names) == 1:
            there = b"" if counts is None else THERE
            numbers = [there + number + NULL for number in columns[0]]
        else:
            size = zigzag(len(self._names))
            numbers = [
                NULL + THERE + size + b"".join(map(b"".join, zip(self._names, row, strict=True))) + NULL
                for row in zip(*columns, strict=True)
            ]
        here = zigzag(answers.partition)
        rows = zip(answers.prefixes, answers.timesteps.tolist(), numbers, answers.times, answers.offsets, strict=True)
        return [
            b"%b\2%b%b%b%b%b%b%b"
            % (prefix, zigzag(timestep), number, NO_CLOSING, zigzag(time), here, zigzag(offset), self._last)
            for prefix, timestep, number, time, offset in rows
        ]

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it; see `Encoder.decided`."""
        when = NULL if timestep is None else THERE + zigzag(timestep)
        return event[: -len(UNDECIDED)] + THERE + _text(self.decisions[number].encode()) + when

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        end = THERE + b"\1" + THERE + _text(REASONS[closing.reason].encode()) + THERE + zigzag(closing.length)
        return prefix + NULL * 3 + end + zigzag(time) + zigzag(partition) + zigzag(offset) + self._last


def _text(encoded: bytes) -> bytes:
    return zigzag(len(encoded)) + encoded


def _numbers(column: NDArray[np.float32]) -> list[bytes]:
    """Of union [null, float]; null where the model gave no number."""
    packed = np.empty((len(column), 5), np.uint8)
    packed[:, 0] = THERE[0]
    packed[:, 1:] = column.astype("<f4").view(np.uint8).reshape(-1, 4)
    whole = packed.tobytes()
    numbers = [whole[i : i + 5] for i in range(0, len(whole), 5)]
    for i in np.flatnonzero(~np.isfinite(column)).tolist():
        numbers[i] = NULL
    return numbers
