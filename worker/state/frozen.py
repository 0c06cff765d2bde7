"""A partition's state as it was at one moment, read piece by piece by another thread while the partition goes on.

Nothing is copied when a state is frozen. Two rules make every piece be as it was at that moment, without a lock:

1. The loop calls `keep` for rows that it is about to change, and their values are put aside first.
2. The reader copies a piece first and asks afterwards which of its rows were put aside: of those it takes what was
   put aside. A row that changed before or during the copy was put aside before that; one that changes later is copied.

A row is put aside once at most. Rows that nobody owned at the moment are told by `births`: a stream that begins later
has a number from `limit` on. What belongs to a row at the moment is thus found in three places at most: the live
columns, what was put aside, or nowhere.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.state.slab import reserve

Rows = NDArray[np.int64]

COLUMNS = ("states", "timesteps", "starts", "start_samples", "times", "offsets")
OPTIONAL = ("next_timesteps", "seen_timesteps", "last_values")  # that only some settings need


class LiveState(Protocol):
    """What is frozen: `PartitionState`, whose attributes these are."""

    stream_ids: list[bytes]
    births: Rows
    born: int
    optional: tuple[str, ...]


class FrozenState:
    """One moment of a state; `keep` belongs to the loop, `take` to one other thread, `release` to any.

    Args:
        state: of which it is; it must call `keep` from now on before it changes a row.

    Attributes:
        released: nobody reads any more, and nothing needs to be put aside.
        optional: those of `OPTIONAL` that the state has.
    """

    def __init__(self, state: LiveState) -> None:
        self.released = False
        self.optional = state.optional
        self._used = len(state.stream_ids)
        self._limit = state.born
        self._ids = state.stream_ids
        self._columns: dict[str, NDArray[Any]] = {
            name: getattr(state, name) for name in ("births", *COLUMNS, *self.optional)
        }
        self._place = reserve((self._used,), np.int64)  # 0: not put aside; k: the k-th that was
        self._aside = {name: reserve((self._used, *c.shape[1:]), c.dtype) for name, c in self._columns.items()}
        self._ids_aside: list[bytes] = []
        self._rows: Rows | None = None

    def keep(self, rows: Rows) -> None:
        """Put aside what these rows hold, if that was not done before; each is named once."""
        rows = rows[rows < self._used]
        rows = rows[self._place[rows] == 0]
        begin = len(self._ids_aside)
        end = begin + len(rows)
        for name, aside in self._aside.items():
            aside[begin:end] = self._columns[name][rows]
        self._ids_aside += map(self._ids.__getitem__, rows.tolist())
        self._place[rows] = np.arange(begin + 1, end + 1)  # last: now the reader may look for them there

    def kept(self, row: int) -> bool:
        """Whether a row may be changed."""
        return self.released or row >= self._used or bool(self._place[row])

    def __len__(self) -> int:
        """Streams."""
        return len(self._streams())

    def take(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The streams `start` to `stop`, in the order in which they began, of one column; a copy."""
        return self._column(name, self._streams()[start:stop])

    def take_ids(self, start: int, stop: int) -> list[bytes]:
        """The IDs of the streams `start` to `stop`."""
        rows = self._streams()[start:stop]
        ids = list(map(self._ids.__getitem__, rows.tolist()))
        changed, places = self._put_aside(rows)
        for i, place in zip(changed.tolist(), places.tolist(), strict=True):
            ids[i] = self._ids_aside[place]
        return ids

    def release(self) -> None:
        """Nothing more will be read."""
        self.released = True
        self._aside = {}  # memory that the loop need not wait for

    def _streams(self) -> Rows:
        """Rows of the streams, `(streams,)`, in the order in which they began."""
        if self._rows is None:
            births = self._column("births", np.arange(self._used))
            rows = np.flatnonzero((births >= 0) & (births < self._limit))
            self._rows = rows[np.argsort(births[rows], kind="stable")]
        return self._rows

    def _column(self, name: str, rows: Rows) -> NDArray[Any]:
        copy: NDArray[Any] = self._columns[name][rows]
        changed, places = self._put_aside(rows)
        copy[changed] = self._aside[name][places]
        return copy

    def _put_aside(self, rows: Rows) -> tuple[Rows, Rows]:
        """Of rows that have been copied: which were put aside by now, as positions in `rows`, and where."""
        place = self._place[rows]
        changed = np.flatnonzero(place)
        return changed, place[changed] - 1
