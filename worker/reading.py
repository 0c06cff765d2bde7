"""A batch of records as stream IDs, samples and markers, before anybody's state is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from worker.codecs import Codec, timestep_of
from worker.errors import BadRecord
from worker.records import END_HEADER, START_HEADER, Headers, RecordBatch
from worker.registry.judge import SchemaJudge
from worker.registry.known_schemas import KnownSchemas
from worker.state.sequences import FIELD, HEADER, NONE, START, TOMBSTONE

FALSE_HEADERS = (b"false", b"0")


@dataclass(slots=True)
class Reading:
    """What a batch says; `(records,)` each.

    Attributes:
        stream_ids: None where a record has none.
        inputs: `(samples, features)` float32 of all good records, in order.
        first_sample: `(records + 1,)` int64, bounds of each record's samples in `inputs`.
        start: int8, START where the record's first sample begins a sequence by its own word.
        end: int8, FIELD, HEADER or TOMBSTONE where the sequence is over after the record, else NONE.
        bad: what could not be read, by record.
        timesteps: the producer's own count at each record's first sample, None where there is none; None where nobody
            asks.
        dropped: records that are left out without a word.
        carried: headers that the outputs of a record carry on, by record.
    """

    batch: RecordBatch
    stream_ids: Sequence[bytes | None]
    inputs: NDArray[np.float32]
    first_sample: NDArray[np.int64]
    start: NDArray[np.int8]
    end: NDArray[np.int8]
    bad: dict[int, BadRecord]
    timesteps: Sequence[int | None] | None = None
    dropped: set[int] = field(default_factory=set)
    carried: dict[int, Headers] = field(default_factory=dict)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each record."""
        return np.diff(self.first_sample)


class Reader:
    """Read batches by one codec.

    Args:
        codec: of the sample values.
        stream_id_from: `key`, `header:NAME` or `field:NAME`; the codec extracts fields itself.
        timestep_header: of the producer's own count; None where it is in the value, or nobody asks.
        judge: of the schemas that values name; None where they name none.
    """

    def __init__(
        self,
        codec: Codec,
        stream_id_from: str = "key",
        timestep_header: str | None = None,
        judge: SchemaJudge | None = None,
    ) -> None:
        self._codec = codec
        self._judge = judge
        self._timestep_header = timestep_header
        kind, _, name = stream_id_from.partition(":")
        self._id_header = name if kind == "header" else None
        self._id_in_value = kind == "field"

    def read(self, batch: RecordBatch, schemas: KnownSchemas | None = None) -> Reading:
        """Decode a batch; never raises for what it holds.

        Args:
            batch: of one partition.
            schemas: by which the partition's records are read, where there is a judge of them.

        Raises:
            TransientFault: the schema registry does not answer.
            Refused: a schema by which records were read is gone.
        """
        start, end = np.zeros(len(batch), np.int8), np.zeros(len(batch), np.int8)
        values: Sequence[bytes | None] = batch.values
        if batch.headers is not None:
            values = self._header_markers(batch, start, end)
        if self._judge is None or schemas is None:
            decoded = self._codec.decode(values)
        else:
            refused = self._judge.refused(batch.partition, values, batch.offsets, schemas)
            decoded = self._codec.decode([None if i in refused else value for i, value in enumerate(values)])
            decoded.bad |= refused
        if decoded.times is not None:
            found = zip(decoded.times, batch.times, strict=True)
            batch = replace(batch, times=[own if time is None else time for time, own in found])
        start[decoded.starts] = START
        end[decoded.ends] = FIELD
        if None in values:
            for i, value in enumerate(values):
                if value is None and end[i] == NONE:
                    end[i] = TOMBSTONE
        timesteps = decoded.timesteps
        if self._timestep_header is not None:
            timesteps = _timesteps(batch, self._timestep_header, decoded.bad)
        return Reading(
            batch,
            self._stream_ids(batch, values, decoded.stream_ids),
            decoded.inputs,
            np.concatenate(([0], np.cumsum(decoded.counts))),
            start,
            end,
            decoded.bad,
            timesteps,
        )

    def _header_markers(
        self, batch: RecordBatch, start: NDArray[np.int8], end: NDArray[np.int8]
    ) -> Sequence[bytes | None]:
        """Note the marker headers; an end marker may have an empty value where a client cannot send null."""
        assert batch.headers is not None
        values = list(batch.values)
        for i, headers in enumerate(batch.headers):
            if not headers:
                continue
            if marked(headers, START_HEADER):
                start[i] = START
            if marked(headers, END_HEADER):
                end[i] = HEADER
                values[i] = values[i] or None
        return values

    def _stream_ids(
        self, batch: RecordBatch, values: Sequence[bytes | None], from_values: list[bytes | None] | None
    ) -> Sequence[bytes | None]:
        if self._id_header is not None:
            headers: Sequence[Headers | None] = batch.headers or [None] * len(batch)
            return [last_header(h, self._id_header) if h else None for h in headers]
        if self._id_in_value:  # a marker without a value has no fields; its key is all it can be known by
            found = from_values or [None] * len(batch)
            return [key if value is None else i for i, key, value in zip(found, batch.keys, values, strict=True)]
        return batch.keys


def _timesteps(batch: RecordBatch, name: str, bad: dict[int, BadRecord]) -> list[int | None] | None:
    """The producer's own count from a header, where a record has it."""
    if batch.headers is None:
        return None
    found: list[int | None] = [None] * len(batch)
    for i, headers in enumerate(batch.headers):
        text = last_header(headers, name) if headers else None
        if text is not None and i not in bad:
            try:
                found[i] = timestep_of(int(text) if len(text) < 20 and text.isdigit() else text)
            except BadRecord as fault:
                bad[i] = fault
    return found


def last_header(headers: Headers, name: str) -> bytes | None:
    """The last header of a name, as Kafka's own `lastHeader`."""
    for key, value in reversed(headers):
        if key == name:
            return value if value is not None else b""
    return None


def marked(headers: Headers, name: str) -> bool:
    """Whether a marker header is there and does not say no."""
    value = last_header(headers, name)
    return value is not None and value.lower() not in FALSE_HEADERS
