"""Refused records: what goes to the dead-letter topic, and when there are too many of them."""

from __future__ import annotations

from collections.abc import Sequence

from worker.errors import BadRecord, FatalFault
from worker.records import DeadLetter, RecordBatch

MAX_VALUE_BYTES = 65_536
MAX_KEY_BYTES = 1_024
MAX_MESSAGE_CHARACTERS = 500
WINDOW = 1_000


def dead_letter(
    batch: RecordBatch, record: int, fault: BadRecord, topic: str, carried: Sequence[tuple[str, bytes | None]] = ()
) -> DeadLetter:
    """A record as its dead letter: key, value and headers as they came, bounded, and headers that say why.

    The names are those of Kafka Streams (KIP-1034), so that tools for its dead-letter topics read these too. Headers
    that are to be carried on take the place of the record's own of their names.
    """
    key, value = batch.keys[record], batch.values[record]
    headers = (batch.headers[record] if batch.headers is not None else None) or []
    if carried:
        names = {name for name, _ in carried}
        headers = [header for header in headers if header[0] not in names]
    message = str(fault)[:MAX_MESSAGE_CHARACTERS]
    why = {
        "exception": "cellstream.BadRecord",
        "message": message,
        "topic": topic,
        "partition": str(batch.partition),
        "offset": str(batch.offsets[record]),
    }
    added = [(f"__streams.errors.{name}", text.encode()) for name, text in why.items()]
    return DeadLetter(
        batch.partition,
        batch.offsets[record],
        key[:MAX_KEY_BYTES] if key is not None else None,
        value[:MAX_VALUE_BYTES] if value is not None else None,
        [*_bounded(headers), *carried, *added, ("cellstream.reason", fault.reason.encode())],
        fault.reason,
        message,
    )


class BadRecordLimit:
    """Stop when more than a share of the last records is bad: then the producer is wrong, not a record.

    Args:
        max_ratio: the share; 1 never stops.
    """

    def __init__(self, max_ratio: float) -> None:
        self._max_ratio = max_ratio
        self._records = 0.0
        self._bad = 0.0

    def observe(self, records: int, bad: int) -> None:
        """Count a poll.

        Raises:
            FatalFault: the share is exceeded over at least the window's records.
        """
        self._records += records
        self._bad += bad
        if self._records < WINDOW:
            return
        if self._bad > self._max_ratio * self._records:
            raise FatalFault(
                f"{self._bad / self._records:.0%} of the last records are bad, max_bad_ratio is {self._max_ratio:g}; "
                "nothing of this poll was committed. Look at the dead-letter topic, mend the producer or the codec, "
                "or raise max_bad_ratio"
            )
        keep = WINDOW / self._records / 2
        self._records *= keep
        self._bad *= keep


def _bounded(headers: list[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """At most 32 headers of at most 1 KiB: a dead letter must never be too large to be written."""
    return [(name[:256], value[:1024] if value is not None else None) for name, value in headers[:32]]
