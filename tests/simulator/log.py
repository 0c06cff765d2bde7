"""A partition's log: records and control markers at offsets, and how far a reader of committed records may go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(eq=False)
class Transaction:
    """One transaction of a producer; `status` is open, committing, committed or aborted."""

    name: str
    began: float
    status: str = "open"
    logs: set[Log] = field(default_factory=set)
    groups: set[Any] = field(default_factory=set)


class Entry(NamedTuple):
    """What stands at an offset; a marker has no record."""

    is_marker: bool
    key: bytes | None = None
    value: bytes | None = None
    headers: list[tuple[str, bytes | None]] | None = None
    time: int = -1
    transaction: Transaction | None = None


class Log:
    """One partition. Its offsets are the indices of its entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.start = 0
        self._open: dict[Transaction, int] = {}

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: nothing behind the begin of an open transaction is read as committed."""
        return min(self._open.values(), default=len(self.entries))

    def append(self, entry: Entry) -> int:
        """Add a record, as part of its transaction if it has one."""
        if entry.transaction is not None and entry.transaction not in self._open:
            self._open[entry.transaction] = len(self.entries)
            entry.transaction.logs.add(self)
        self.entries.append(entry)
        return len(self.entries) - 1

    def settle(self, transaction: Transaction) -> None:
        """Write the marker that ends a transaction."""
        self._open.pop(transaction, None)
        self.entries.append(Entry(True))

    def read(self, position: int, count: int, committed: bool) -> tuple[list[tuple[int, Entry]], int]:
        """At most so many records from a position on, and the position behind what was passed."""
        found: list[tuple[int, Entry]] = []
        end = self.stable_end if committed else self.end
        while position < end and len(found) < count:
            entry = self.entries[position]
            if not entry.is_marker and (not committed or visible(entry)):
                found.append((position, entry))
            position += 1
        return found, position

    def records(self) -> list[tuple[int, Entry]]:
        """All that a reader of committed records may see from offset 0 on, deleted or not."""
        return self.read(0, len(self.entries), committed=True)[0]


def visible(entry: Entry) -> bool:
    """Whether a record before the last stable offset is read as committed."""
    return entry.transaction is None or entry.transaction.status == "committed"
