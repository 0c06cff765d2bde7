"""Rows of a flat table -> sequences: which rows belong together, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Group:
    """The rows of one sequence.

    Attributes:
        stream_id: whose it is.
        sequence: which of the stream's sequences; empty where a stream has one.
        rows: `(timesteps,)` int64, positions in the table, in the order of time.
    """

    stream_id: str
    sequence: str
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def group_rows(
    table: pd.DataFrame, stream_id: str, order: str | None = None, sequence: str | None = None
) -> list[Group]:
    """Group a table by a column, or by two, into sequences.

    Args:
        table: rows of any number of streams, interleaved in any way.
        stream_id: column; rows of one stream ID are one sequence,
        sequence: unless this column divides them further.
        order: column to sort each sequence by; rows that are equal in it keep the table's order. None keeps the order
            of the table.

    Returns:
        The sequences in the order in which they begin in the table.
    """
    columns = [stream_id] if sequence is None else [stream_id, sequence]
    ordered = np.arange(len(table)) if order is None else table[order].argsort(kind="stable").to_numpy()
    numbers = table.groupby(columns, sort=False).ngroup().to_numpy()  # in the order of first appearance
    # A stable sort by the group's number keeps the order of time inside each group.
    rows = ordered[np.argsort(numbers[ordered], kind="stable")]
    borders = np.flatnonzero(np.diff(numbers[rows])) + 1
    # Column by column: a row of a frame has one type, and would make a stream 7 to one of 7.0.
    streams = table[stream_id].to_numpy()
    parts = None if sequence is None else table[sequence].to_numpy()
    return [
        Group(str(streams[members[0]]), "" if parts is None else str(parts[members[0]]), members.astype(np.int64))
        for members in (np.split(rows, borders) if len(rows) else [])
    ]
