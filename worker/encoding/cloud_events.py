"""CloudEvents 1.0 in binary mode: what an event is, in headers beside its value.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md, section 3.2. A ce_id is
made of the coordinates of the input record, so that a replay gives the same one: the sample's record and, within a
chunk, its place there; of a closing event, the sequence that it closes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.records import Headers
from worker.state.sequences import Closing, sequence_id

EVENT_TYPE = b"cellstream.probability"
CLOSING_TYPE = b"cellstream.end_of_sequence"


class CloudEvents:
    """Write headers.

    Args:
        source: ce_source, a URI reference.
        content_type: of the values.
    """

    def __init__(self, source: str, content_type: str) -> None:
        self._source = source.encode()
        self._content_type = content_type.encode()

    def events(
        self,
        partition: int,
        stream_ids: Sequence[bytes],
        offsets: Sequence[int],
        within: Sequence[int],
        times: NDArray[np.int64],
    ) -> list[Headers | None]:
        """Headers of probability events.

        Args:
            partition: of the input topic.
            stream_ids: of the events.
            offsets: of their records.
            within: index of each event's first sample in its record.
            times: `(events,)` ms; -1 where nobody knows one.
        """
        ids = [
            b"%d-%d.%d" % (partition, offset, sample) if sample else b"%d-%d" % (partition, offset)
            for offset, sample in zip(offsets, within, strict=True)
        ]
        return list(map(self._headers, [EVENT_TYPE] * len(ids), ids, stream_ids, _moments(times)))

    def closing(self, partition: int, closing: Closing, time: int) -> Headers:
        """Headers of a closing event."""
        closed = sequence_id(partition, closing.start, closing.start_sample) + b"-end"
        return self._headers(CLOSING_TYPE, closed, closing.stream_id, _moments(np.array([time]))[0])

    def _headers(self, kind: bytes, event_id: bytes, stream_id: bytes, moment: bytes | None) -> Headers:
        headers: Headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", event_id),
            ("ce_source", self._source),
            ("ce_type", kind),
            ("ce_subject", stream_id),
            ("content-type", self._content_type),
        ]
        if moment is not None:
            headers.append(("ce_time", moment))
        return headers


def _moments(times: NDArray[np.int64]) -> list[bytes | None]:
    """RFC 3339, in UTC; None for a time before 1970, which is none."""
    texts = np.datetime_as_string(times.astype("datetime64[ms]"), timezone="UTC").tolist()
    return [text.encode() if time >= 0 else None for text, time in zip(texts, times.tolist(), strict=True)]
