"""Probability events and closing events in Protobuf.

What an event does not have is not written; a number that the model did not give is NaN, which a float can be.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.encoding.encoder import Answers, Encoder
from worker.registry.client import header
from worker.state.sequences import REASONS, Closing, sequence_id
from worker.varints import varint

FIRST_MESSAGE = b"\0"  # of the schema's messages; stands between the schema's ID and the value
SCHEMA = """\
syntax = "proto3";
package cellstream;

message Event {{
  string stream_id = 1;
  string sequence = 2;
  optional int64 timestep = 3;
  {one} float probability = 4;
  map<string, {many}> probabilities = 5;
  optional bool end_of_sequence = 6;
  optional string reason = 7;
  optional int64 length = 8;
  int64 timestamp = 9;
  int32 partition = 10;
  int64 offset = 11;
  string model = 12;
  optional string decision = 13;
  optional int64 decision_timestep = 14;
}}
"""
NUMBERS = """
message Numbers {
  repeated float values = 1;
}
"""
# A field's number, and how its value is written: varint, length and bytes, or four bytes.
STREAM_ID, SEQUENCE, TIMESTEP, PROBABILITY = b"\x0a", b"\x12", b"\x18", b"\x25"
SEVERAL, PROBABILITIES, END, REASON, LENGTH = b"\x22", b"\x2a", b"\x30", b"\x3a", b"\x40"
TIMESTAMP, PARTITION, OFFSET, MODEL, DECISION, DECISION_TIMESTEP = b"\x48", b"\x50", b"\x58", b"\x62", b"\x6a", b"\x70"
KEY, VALUE, VALUES = b"\x0a", b"\x15", b"\x12"  # of an entry of a map
VALUES_OF_NUMBERS = b"\x0a"


def protobuf_schema(per_record: bool) -> str:
    """The schema of events; with `output_per=record` its numbers are lists."""
    if per_record:
        return SCHEMA.format(one="repeated", many="Numbers") + NUMBERS
    return SCHEMA.format(one="optional", many="float")


class ProtobufEncoder(Encoder):
    """The events by `protobuf_schema`; numbers are float32 as the model gave them."""

    def __init__(self, classes: Sequence[str], model: str, schema_id: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(decisions)
        self._header = header(schema_id)
        self._last = _sized(MODEL, model.encode())
        self._names = [_sized(KEY, name.encode()) for name in classes]

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """The part of an event that is the same for a whole sequence, with the ID in front."""
        sequence = sequence_id(partition, start, start_sample)
        return self._header + FIRST_MESSAGE + _sized(STREAM_ID, stream_id) + _sized(SEQUENCE, sequence)

    def encode(self, answers: Answers) -> list[bytes]:
        """One event for each prefix."""
        counts, bounds = answers.counts, [(4 * i, 4 * j) for i, j in answers.bounds()]
        columns = [column.astype("<f4").tobytes() for column in answers.outputs.T]
        pieces = [[column[i:j] for i, j in bounds] for column in columns]
        if len(self._names) > 1:
            numbers = [
                b"".join(map(self._entry, self._names, row, [counts is not None] * len(row)))
                for row in zip(*pieces, strict=True)
            ]
        else:
            numbers = [PROBABILITY + piece if counts is None else _sized(SEVERAL, piece) for piece in pieces[0]]
        here = PARTITION + varint(answers.partition) + OFFSET
        rows = zip(answers.prefixes, answers.timesteps.tolist(), numbers, answers.times, answers.offsets, strict=True)
        return [
            b"".join(
                (prefix, TIMESTEP, varint(timestep), number, TIMESTAMP, varint(time), here, varint(offset), self._last)
            )
            for prefix, timestep, number, time, offset in rows
        ]

    @staticmethod
    def _entry(name: bytes, piece: bytes, several: bool) -> bytes:
        value = _sized(VALUES, _sized(VALUES_OF_NUMBERS, piece)) if several else VALUE + piece
        return _sized(PROBABILITIES, name + value)

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it; see `Encoder.decided`."""
        when = b"" if timestep is None else DECISION_TIMESTEP + varint(timestep)
        return event + _sized(DECISION, self.decisions[number].encode()) + when

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        end = END + b"\1" + _sized(REASON, REASONS[closing.reason].encode()) + LENGTH + varint(closing.length)
        placed = TIMESTAMP + varint(time) + PARTITION + varint(partition) + OFFSET + varint(offset)
        return prefix + end + placed + self._last


def _sized(tag: bytes, value: bytes) -> bytes:
    return tag + varint(len(value)) + value
