"""A table of a user -> labelled sequences, or every reason why not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.datasets import Sequences
from training.tables.checking import SHOWN, as_numbers, as_order, composed, row_problems
from training.tables.columns import Columns
from training.tables.grouping import Group, group_rows
from training.tables.labels import KINDS, changing, label_problems, read_labels
from training.tables.reading import read_table
from worker.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


def load_table(source: str, columns: Columns, *, table: str | None = None, label_per: str = "auto") -> Sequences:
    """Read, check and group a table.

    Args:
        source: file or URL (`training.tables.reading`).
        columns: what they mean.
        table: of a database.
        label_per: `sequence`: a label that changes inside of a sequence is an error; `timestep`: labels are learned
            where they stand; `auto`: timestep if any label changes.

    Raises:
        UsageError: with every problem of names, rows and labels at once.
    """
    if label_per not in KINDS:
        raise UsageError(f"--label-per {label_per}: expected one of {', '.join(KINDS)}")
    return sequences_of(read_table(source, table), columns, dataset_name(source, table), label_per)


def sequences_of(frame: pd.DataFrame, columns: Columns, name: str, label_per: str = "auto") -> Sequences:
    """The sequences of a frame; see `load_table`."""
    problems = columns.problems([str(column) for column in frame.columns]) + row_problems(frame, columns)
    if len(frame) and columns.label in frame and not composed(frame[columns.label]).any():
        problems += label_problems(frame[columns.label])
    if problems:
        raise UsageError(_listed(name, problems))
    if columns.order is not None:
        frame = frame.assign(**{columns.order: as_order(frame[columns.order])})
    groups = group_rows(frame, columns.stream_id, columns.order, columns.sequence)
    labels = read_labels(frame[columns.label])
    varied = changing(labels.numbers, groups)
    if varied and label_per == "sequence":
        shown = ", ".join(f"{_first_change(labels.numbers, group) + 1} ({_told(group)!r})" for group in varied[:SHOWN])
        more = f" and in {len(varied) - SHOWN} more sequences" if len(varied) > SHOWN else ""
        told = f"column {columns.label!r}, row {shown}{more}: the label changes within a sequence"
        raise UsageError(_listed(name, [f"{told}; with --label-per timestep it is learned where it stands"]))
    per_timestep = bool(varied) or label_per == "timestep"
    values = np.stack([as_numbers(frame[feature]).to_numpy(np.float32) for feature in columns.features], axis=1)
    own = tuple(labels.numbers[group.rows] for group in groups)
    # A fault that is rare in every sequence shall still be in all parts of the division.
    frequency = np.bincount(labels.numbers)
    return Sequences(
        name=name,
        inputs=tuple(np.ascontiguousarray(values[group.rows]) for group in groups),
        labels=np.array([min(numbers, key=frequency.__getitem__) for numbers in own], np.int64),
        features=columns.features,
        classes=labels.classes,
        stream_ids=tuple(_told(group) for group in groups),
        streams=tuple(group.stream_id for group in groups),
        timestep_labels=own if per_timestep else None,
        begins=_begins(frame, columns, groups),
    )


def _begins(frame: pd.DataFrame, columns: Columns, groups: list[Group]) -> tuple[float, ...]:
    """The first value of each sequence in the column of order, times in nanoseconds; empty without one."""
    if columns.order is None:
        return ()
    order = frame[columns.order].to_numpy()
    if not np.issubdtype(order.dtype, np.number):
        order = frame[columns.order].astype("int64").to_numpy()
    return tuple(float(order[group.rows[0]]) for group in groups)


def dataset_name(source: str, table: str | None) -> str:
    """A name for the manifest and the model: of the table, or of the file; never of a host or a user."""
    name = table or (re.split(r"[/?]", source)[-1] if "://" in source else Path(source).stem)
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "table"


def _told(group: Group) -> str:
    return f"{group.stream_id}/{group.sequence}" if group.sequence else group.stream_id


def _first_change(labels: np.ndarray, group: Group) -> int:
    own = labels[group.rows]
    return int(group.rows[np.flatnonzero(own != own[0])[0]])


def _listed(name: str, problems: list[str]) -> str:
    many = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    lines = "".join(f"\n  - {problem}" for problem in problems[:40])
    more = f"\n  - and {len(problems) - 40} more" if len(problems) > 40 else ""
    return f"table {name!r} has {many} (rows are counted from 1, without a header):{lines}{more}"
