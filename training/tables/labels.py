"""A label column -> classes, and whether it labels sequences or timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.tables.grouping import Group
from worker.artifact import name_problems

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("auto", "sequence", "timestep")
MOST_NUMBERED_CLASSES = 50
SUPPORTED = "supported are classes: text, booleans, or whole numbers, of a sequence or of every timestep"


@dataclass(frozen=True)
class Labels:
    """Classes of a column.

    Attributes:
        classes: their names, in their own order: numbers by size, everything else by the alphabet.
        numbers: `(rows,)` int64, index into `classes` for each row of the table.
    """

    classes: tuple[str, ...]
    numbers: NDArray[np.int64]


def label_problems(column: pd.Series[Any]) -> list[str]:
    """What keeps a column from being classes; missing values are told elsewhere."""
    import pandas as pd

    present = column.dropna()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = present.to_numpy(np.float64)
        broken = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.floor(numbers)))
        if len(broken):
            value = numbers[broken[0]]
            return [f"column {column.name!r} holds {value:g}: a number to predict (regression) cannot be; {SUPPORTED}"]
        if len(np.unique(numbers)) > MOST_NUMBERED_CLASSES:
            return [
                f"column {column.name!r} holds {len(np.unique(numbers))} different numbers, which looks like a number "
                f"to predict (regression), and that cannot be; {SUPPORTED}. Write classes that are so many as text"
            ]
    classes = class_names(present)
    problems = [text.replace("classes: ", f"column {column.name!r}: ", 1) for text in name_problems(("x",), classes)]
    if len(classes) == 1:
        problems.append(f"column {column.name!r} holds one class only, {classes[0]!r}: at least two are needed")
    return problems if classes else []


def read_labels(column: pd.Series[Any]) -> Labels:
    """Classes of a column that has no problems."""
    classes = class_names(column)
    index = {name: number for number, name in enumerate(classes)}
    return Labels(classes, np.array([index[_name(value)] for value in column], np.int64))


def class_names(column: pd.Series[Any]) -> tuple[str, ...]:
    """Names of the classes of a column without missing values."""
    values = column.unique().tolist()
    try:
        ordered = sorted(values)
    except TypeError:  # text and numbers side by side
        ordered = sorted(values, key=str)
    return tuple(dict.fromkeys(_name(value) for value in ordered))


def changing(labels: NDArray[np.int64], groups: Sequence[Group]) -> list[Group]:
    """The sequences whose label is not the same in all of their rows."""
    return [group for group in groups if (labels[group.rows] != labels[group.rows[0]]).any()]


def _name(value: Any) -> str:
    """`1.0` and `1` are the same class: a column of whole numbers with a gap is read as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
