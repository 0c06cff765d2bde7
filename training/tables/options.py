"""The options of `cellstream train TABLE`, checked together."""

from __future__ import annotations

from training.tables.columns import Columns
from worker.errors import UsageError

EXAMPLE = "cellstream train runs.csv --stream-id run --label fault --features pressure,flow --order time --out artifact"


def columns_of(
    data: str, stream_id: str | None, label: str | None, features: str | None, order: str | None, sequence: str | None
) -> Columns:
    """Columns by the command's options.

    Raises:
        UsageError: some that a table needs are not given; names all of them.
    """
    needed = {"--stream-id": stream_id, "--label": label, "--features": features}
    missing = [option for option, value in needed.items() if not value]
    if missing or stream_id is None or label is None or features is None:
        raise UsageError(f"{data} is a table: say which columns to use with {', '.join(missing)}; such as: {EXAMPLE}")
    names = tuple(name.strip() for name in features.split(","))
    return Columns(stream_id, label, names, order, sequence)


def refuse_options(data: str, **given: str | None) -> None:
    """Options of tables mean nothing for a bundled set.

    Raises:
        UsageError: names those that were given.
    """
    named = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if named:
        raise UsageError(f"{data} is a bundled data set and has its columns: leave out {', '.join(named)}")
