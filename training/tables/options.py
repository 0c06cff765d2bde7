"""The options of every command that reads labelled data: a table's columns, or the name of a bundled set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from training.datasets import BUNDLED, Sequences, load
from training.tables.columns import Columns
from worker.errors import UsageError

EXAMPLE = "cellstream train runs.csv --stream-id run --label fault --features pressure,flow --order time --out artifact"

StreamId = Annotated[str | None, typer.Option(metavar="COL", help="Table: column that tells whose row it is.")]
Label = Annotated[str | None, typer.Option(metavar="COL", help="Table: column of the class, the right one.")]
Features = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Table: columns that the model sees, in the order of the samples."),
]
Order = Annotated[
    str | None, typer.Option(metavar="COL", help="Table: number or time to sort rows by; else they are in order.")
]
Sequence = Annotated[
    str | None, typer.Option(metavar="COL", help="Table: column that divides a stream into several sequences.")
]
LabelPer = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Table: `sequence` or `timestep`; if not given, timestep where the label changes in a sequence.",
    ),
]
TableName = Annotated[str | None, typer.Option("--table", metavar="NAME", help="Which table of a database.")]


@dataclass(frozen=True)
class TableOptions:
    """What was said on the command line of a table; all None for a bundled set.

    Attributes:
        stream_id, label, order, sequence: columns.
        features: columns, divided by commas.
        label_per: `sequence` or `timestep`.
        table: of a database.
    """

    stream_id: str | None = None
    label: str | None = None
    features: str | None = None
    order: str | None = None
    sequence: str | None = None
    label_per: str | None = None
    table: str | None = None

    def read(self, data: str) -> Sequences:
        """The sequences of a table's file, of a database's URL, or of a bundled set.

        Raises:
            UsageError: options that a table needs are not given, or some are given for a bundled set; the table has
                problems; there is no such set.
        """
        from training.tables.reading import is_table

        if is_table(data):
            from training.tables.loading import load_table

            return load_table(data, self.columns(data), table=self.table, label_per=self.label_per or "auto")
        if data not in BUNDLED:
            return load(data)  # which says what there is
        given = [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]
        if given:
            raise UsageError(f"{data} is a bundled data set and has its columns: leave out {', '.join(given)}")
        return load(data)

    def columns(self, data: str) -> Columns:
        """The columns of a table.

        Raises:
            UsageError: some that a table needs are not given; names all of them.
        """
        needed = {"--stream-id": self.stream_id, "--label": self.label, "--features": self.features}
        missing = [option for option, value in needed.items() if not value]
        if missing or self.stream_id is None or self.label is None or self.features is None:
            raise UsageError(
                f"{data} is a table: say which columns to use with {', '.join(missing)}; such as: {EXAMPLE}"
            )
        names = tuple(name.strip() for name in self.features.split(","))
        return Columns(self.stream_id, self.label, names, self.order, self.sequence)
