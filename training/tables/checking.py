"""What is wrong with the rows of a table: every problem at once, each with its column and its rows.

A worker refuses samples that are missing, not finite, or too large for float32. Training refuses them too: what it
would have to invent for them, the stream could not invent in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.tables.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

MAX_STREAM_ID_BYTES = 256
SHOWN = 5
Rows = NDArray[np.bool_]


def row_problems(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Problems of stream IDs, features, labels and order, in those of the columns that are there."""
    if not len(table):
        return ["there are no rows"]
    found = []
    for name in columns.all:
        if name in table:
            kind = "" if name not in columns.features else " (fill it, or leave the row out)"
            found += _told(name, table[name].isna().to_numpy(), f"missing{kind}")
            found += _told(name, composed(table[name]), "several values in one place", table[name])
    for name in columns.features:
        if name in table and name not in (columns.label, columns.stream_id):
            found += _feature_problems(table[name], name)
    if columns.stream_id in table:
        found += _id_problems(table[columns.stream_id], columns.stream_id)
    if columns.order is not None and columns.order in table:
        found += _order_problems(table, columns, columns.order)
    return found


def composed(column: Any) -> Rows:
    """Which rows of a column hold a list or another structure, as a Parquet file may."""
    import pandas as pd

    if column.dtype != object:
        return np.zeros(len(column), np.bool_)
    return np.array([pd.api.types.is_list_like(value) for value in column], np.bool_)


def as_numbers(column: Any) -> Any:
    """A column as numbers; NaN where it is missing or is no number, as a moment or a span of time is none."""
    import pandas as pd

    if pd.api.types.is_complex_dtype(column) or column.dtype.kind in "mM":
        return pd.Series(np.nan, column.index)
    return pd.to_numeric(column, errors="coerce")


def as_order(column: Any) -> Any:
    """A column as something to sort by: numbers and times as they are, text as times; missing where it is neither."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return column
    return pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)


def _feature_problems(column: Any, name: str) -> list[str]:
    numbers = as_numbers(column)
    text = (numbers.isna() & column.notna()).to_numpy() & ~composed(column)
    with np.errstate(over="ignore"):
        finite = np.isfinite(numbers.to_numpy(np.float64, na_value=np.nan).astype(np.float32))
    too_large = ~finite & numbers.notna().to_numpy()
    return _told(name, text, "not a number", column) + _told(name, too_large, "not finite in float32", column)


def _id_problems(ids: Any, name: str) -> list[str]:
    sizes = np.array([len(str(value).encode("utf-8", "replace")) for value in ids])
    plain = ids.notna().to_numpy() & ~composed(ids)
    return _told(name, plain & (sizes == 0), "an empty stream ID") + _told(
        name, plain & (sizes > MAX_STREAM_ID_BYTES), f"a stream ID of more than {MAX_STREAM_ID_BYTES} bytes"
    )


def _order_problems(table: pd.DataFrame, columns: Columns, name: str) -> list[str]:
    order = as_order(table[name])
    unclear = (order.isna() & table[name].notna()).to_numpy()
    found = _told(name, unclear, "neither a number nor a time such as 2026-03-01T12:00:00Z", table[name])
    owners = [name for name in (columns.stream_id, columns.sequence) if name is not None]
    if any(owner not in table or composed(table[owner]).any() for owner in owners):
        return found  # whose moment it is cannot be said
    frame = table[owners].assign(**{name: order})
    # A moment that a sequence has twice leaves its order open, and with it what is learned.
    doubled = frame.duplicated(keep=False).to_numpy() & order.notna().to_numpy()
    return found + _told(name, doubled, "a moment that its sequence has more than once")


def _told(name: str, rows: Rows, what: str, column: Any = None) -> list[str]:
    """One problem of a column with the rows that have it, counted from 1; nothing if no row has it."""
    places = np.flatnonzero(rows)
    if not len(places):
        return []
    values = [] if column is None else [f"{str(column.iloc[place])[:30]!r}" for place in places[:SHOWN]]
    shown = [f"{place + 1} ({value})" for place, value in zip(places, values, strict=False)] or [
        str(place + 1) for place in places[:SHOWN]
    ]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return [f"column {name!r}, row {', '.join(shown)}{more}: {what}"]
