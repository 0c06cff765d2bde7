"""Probability events and closing events in Avro and JSON Schema, in the wire format of a Schema Registry.

One schema holds both kinds of events, as a topic's values share one: what an event does not have is null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.encoding import ProbabilityEncoder
from worker.registry import SCHEMA_TYPES, header, subject_of
from worker.sequences import REASONS, Closing, sequence_id
from worker.settings import Settings

NAME = "cellstream.Event"
NULL, THERE = b"\0", b"\2"  # which side of a union [null, X] follows
NO_CLOSING = NULL * 3
UNDECIDED = NULL * 2


def output_schema(settings: Settings) -> tuple[str, str, str]:
    """Subject, type and text of the schema of a deployment's events."""
    subject = subject_of(settings.output_subject, settings.output_topic, NAME)
    text = avro_schema if settings.output_codec == "avro" else json_schema
    return subject, SCHEMA_TYPES[settings.output_codec], text(settings.output_per == "record")


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


def json_schema(per_record: bool) -> str:
    """The schema of events, which are those of the codec `json`."""
    number: dict[str, Any] = {"type": ["number", "null"]}
    if per_record:
        number = {"type": "array", "items": number}
    whole, text = {"type": "integer"}, {"type": "string"}
    properties = {
        "stream_id": text, "sequence": text, "timestep": whole, "probability": number,
        "probabilities": {"type": "object", "additionalProperties": number}, "end_of_sequence": {"type": "boolean"},
        "reason": text, "length": whole, "timestamp": whole,
        "source": {"type": "array", "items": whole, "minItems": 2, "maxItems": 2}, "model": text, "decision": text,
        "decision_timestep": whole,
    }  # fmt: skip
    required = ["stream_id", "sequence", "timestamp", "source", "model"]
    draft = "http://json-schema.org/draft-07/schema#"
    schema = {"$schema": draft, "title": NAME, "type": "object", "properties": properties, "required": required}
    return json.dumps(schema)


class RegisteredJsonEncoder(ProbabilityEncoder):
    """The JSON events behind the ID of their schema.

    Args:
        classes: as those of `ProbabilityEncoder`.
        model: likewise.
        schema_id: of `json_schema`.
        decisions: as those of `ProbabilityEncoder`.
    """

    def __init__(self, classes: Sequence[str], model: str, schema_id: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(classes, model, decisions)
        self._header = header(schema_id)

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """With the ID in front."""
        return self._header + super().prefix(stream_id, partition, start, start_sample)


class AvroEncoder(ProbabilityEncoder):
    """The events in Avro, behind the ID of their schema; numbers are float32 as the model gave them.

    Args:
        classes: as those of `ProbabilityEncoder`.
        model: likewise.
        schema_id: of `avro_schema`.
        decisions: as those of `ProbabilityEncoder`.
    """

    def __init__(self, classes: Sequence[str], model: str, schema_id: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(classes, model, decisions)
        self._header = header(schema_id)
        self._last = _text(model.encode()) + UNDECIDED
        self._names = [_text(name.encode()) for name in classes]

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """The part of an event that is the same for a whole sequence, with the ID in front."""
        return self._header + _text(stream_id) + _text(sequence_id(partition, start, start_sample))

    def encode(
        self,
        partition: int,
        prefixes: Sequence[bytes],
        timesteps: NDArray[np.int64],
        outputs: NDArray[np.float32],
        times: Sequence[int],
        offsets: Sequence[int],
        counts: NDArray[np.int64] | None = None,
    ) -> list[bytes]:
        """One event for each prefix; see `ProbabilityEncoder.encode`."""
        if not prefixes:
            return []
        columns = [_numbers(column) for column in np.ascontiguousarray(outputs.T)]
        if counts is not None:
            bounds = list(pairwise([0, *np.cumsum(counts).tolist()]))
            columns = [[_long(j - i) + b"".join(column[i:j]) + NULL for i, j in bounds] for column in columns]
        if len(self._names) == 1:
            there = b"" if counts is None else THERE
            numbers = [there + number + NULL for number in columns[0]]
        else:
            size = _long(len(self._names))
            numbers = [
                NULL + THERE + size + b"".join(map(b"".join, zip(self._names, row, strict=True))) + NULL
                for row in zip(*columns, strict=True)
            ]
        here = _long(partition)
        rows = zip(prefixes, timesteps.tolist(), numbers, times, offsets, strict=True)
        return [
            b"%b\2%b%b%b%b%b%b%b"
            % (prefix, _long(timestep), number, NO_CLOSING, _long(time), here, _long(offset), self._last)
            for prefix, timestep, number, time, offset in rows
        ]

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it; see `ProbabilityEncoder.decided`."""
        when = NULL if timestep is None else THERE + _long(timestep)
        return event[: -len(UNDECIDED)] + THERE + _text(self._decisions[number].encode()) + when

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        end = THERE + b"\1" + THERE + _text(REASONS[closing.reason].encode()) + THERE + _long(closing.length)
        return prefix + NULL * 3 + end + _long(time) + _long(partition) + _long(offset) + self._last


def _long(number: int) -> bytes:
    """Avro's int and long: zigzag, seven bits a byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63)
    if rest < 0x80:
        return bytes((rest,))
    found = bytearray()
    while rest >= 0x80:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def _text(encoded: bytes) -> bytes:
    return _long(len(encoded)) + encoded


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
