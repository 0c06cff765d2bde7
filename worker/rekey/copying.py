"""What becomes of a record: a copy under its stream ID, or a dead letter. No broker, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from worker.codecs import StreamIdField
from worker.codecs.registered import RegisteredValues
from worker.dead_letters import dead_letter
from worker.errors import BadRecord
from worker.reading import last_header, marked
from worker.records import END_HEADER, Copies, Headers, RecordBatch
from worker.state.streams import unusable


class Copier:
    """Turn a poll's records into copies.

    Args:
        topic: that the records are of; named by dead letters.
        stream_id_from: `key`, `header:NAME` or `field:NAME`.
        field: reads the stream ID out of a value, where it is in a field.
        max_bytes: most bytes of a value with its headers.
        objects: of values that name schemas; None where they are objects themselves.
    """

    def __init__(
        self,
        topic: str,
        stream_id_from: str,
        field: StreamIdField | None,
        max_bytes: int,
        objects: RegisteredValues | None = None,
    ) -> None:
        self._topic = topic
        kind, _, name = stream_id_from.partition(":")
        self._header = name if kind == "header" else None
        self._field = field
        self._objects = objects
        self._max_bytes = max_bytes

    def copy(self, batches: Sequence[RecordBatch]) -> Copies:
        """The copies and dead letters of a poll; never raises for what records hold.

        Raises:
            TransientFault: the schema registry does not answer.
        """
        copies = Copies()
        for batch in batches:
            self._copy(batch, copies)
        return copies

    def _copy(self, batch: RecordBatch, copies: Copies) -> None:
        nobodys: Sequence[Headers | None] = [None] * len(batch)
        rows = zip(batch.keys, batch.values, batch.times, batch.headers or nobodys, strict=True)
        for i, (key, value, time, headers) in enumerate(rows):
            try:
                self._refuse_oversized(value, headers)
                stream_id = self._stream_id(key, value, headers)
                fault = unusable(stream_id)
                if fault is not None:
                    raise fault
            except BadRecord as fault:
                copies.dead_letters.append(dead_letter(batch, i, fault, self._topic))
                continue
            assert stream_id is not None
            copies.keys.append(stream_id)
            copies.values.append(value)  # type: ignore[arg-type]  # a null value ends a sequence, and is copied too
            copies.times.append(time)
            copies.headers.append(headers)
        copies.records += len(batch)

    def _stream_id(self, key: bytes | None, value: bytes | None, headers: Headers | None) -> bytes | None:
        """The same record has the same stream ID here and in the worker (`worker/reading.py`)."""
        if self._header is not None:
            return last_header(headers, self._header) if headers else None
        if self._field is None or value is None:
            return key
        if not value and headers and marked(headers, END_HEADER):  # an end marker of a client that cannot send null
            return key
        return self._field.of(value if self._objects is None else self._objects.object(value))

    def _refuse_oversized(self, value: bytes | None, headers: Headers | None) -> None:
        size = len(value or b"")
        if headers:
            size += sum(len(name) + len(content or b"") for name, content in headers)
        if size > self._max_bytes:
            raise BadRecord(
                "oversized_value", f"expected at most {self._max_bytes} bytes of value and headers, received {size}"
            )
