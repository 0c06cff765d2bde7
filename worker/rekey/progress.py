"""How far `cellstream rekey` is, in its log now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from worker.kafka import Source
from worker.records import Copies

log = structlog.get_logger(__name__)

EVERY_S = 10.0


class Progress:
    """Count what was committed.

    Args:
        clock: monotonic seconds.

    Attributes:
        copied: records under their stream IDs.
        dead_letters: refused ones.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.copied = 0
        self.dead_letters = 0
        self._clock = clock
        self._told = 0
        self._told_at = clock()

    def committed(self, work: Sequence[Copies]) -> None:
        """These copies are visible now."""
        self.copied += sum(len(copies.keys) for copies in work)
        self.dead_letters += sum(len(copies.dead_letters) for copies in work)

    def tell(self, source: Source, next_offsets: Mapping[int, int]) -> None:
        """Write a line when it is time for one and something has happened."""
        elapsed_s = self._clock() - self._told_at
        done = self.copied + self.dead_letters
        if elapsed_s < EVERY_S or done == self._told:
            return
        lags = [(source.log_end(partition) or offset) - offset for partition, offset in next_offsets.items()]
        log.info(
            "progress",
            copied=self.copied,
            dead_letters=self.dead_letters,
            per_second=round((done - self._told) / elapsed_s),
            lag_records=sum(lag for lag in lags if lag > 0),
        )
        self._told, self._told_at = done, self._clock()
