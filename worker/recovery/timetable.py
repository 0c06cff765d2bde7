"""When a partition's checkpoint is due: by time, by records, and after a failure not before a pause is over."""

from __future__ import annotations

# What failed is tried again after a pause that doubles; by records alone it would be due again at every commit.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class Timetable:
    """Which checkpoints were taken, and when the next ones are due. Times are monotonic seconds.

    Args:
        interval_s: between two checkpoints of a partition.
        interval_records: after which one is due as well, or None.
    """

    def __init__(self, interval_s: float, interval_records: int | None) -> None:
        self.interval_s = interval_s
        self.interval_records = interval_records
        self._saved_at: dict[int, int] = {}
        self._due_at: dict[int, float] = {}
        self._pause_s: dict[int, float] = {}
        self._paused_until: dict[int, float] = {}

    def begin(self, partition: int, saved_at: int | None, now_s: float) -> None:
        """A partition comes with a checkpoint at this offset, or with none.

        One that was ours already and is restored, because a transaction was aborted, stays due when it was: aborts
        that come more often than checkpoints would put them off for ever.
        """
        self._saved_at.pop(partition, None)
        if saved_at is not None:
            self._saved_at[partition] = saved_at
        # Partitions that are assigned together are not all due together.
        share = 0.5 + (partition * 0.381966) % 0.5
        self._due_at.setdefault(partition, now_s + share * self.interval_s)

    def saved_at(self, partition: int) -> int | None:
        """The offset of the last checkpoint that was taken and has not failed; None where there is none."""
        return self._saved_at.get(partition)

    def is_due(self, partition: int, committed: int, now_s: float) -> bool:
        """Whether the state at this offset should be saved now."""
        moved = committed - self._saved_at.get(partition, -1)
        if not moved or now_s < self._paused_until.get(partition, now_s):
            return False
        if self.interval_records is not None and moved >= self.interval_records:
            return True
        return now_s >= self._due_at.get(partition, now_s)

    def taken(self, partition: int, offset: int, now_s: float) -> None:
        """A checkpoint is on its way."""
        self._saved_at[partition] = offset
        self._due_at[partition] = now_s + self.interval_s

    def written(self, partition: int) -> None:
        """One has arrived: the store works."""
        self._pause_s.pop(partition, None)
        self._paused_until.pop(partition, None)

    def failed(self, partition: int, now_s: float) -> None:
        """One was lost on its way."""
        self._saved_at.pop(partition, None)
        pause_s = min(2 * self._pause_s.get(partition, FIRST_PAUSE_S / 2), LONGEST_PAUSE_S, self.interval_s)
        self._pause_s[partition], self._paused_until[partition] = pause_s, now_s + pause_s

    def forget(self, partition: int) -> None:
        """The partition is somebody else's."""
        for kept in (self._saved_at, self._due_at, self._pause_s, self._paused_until):
            kept.pop(partition, None)
