"""A table from CSV, Parquet, NumPy .npz, SQLite, or any database that SQLAlchemy reaches, as a pandas frame.

Which of them it is, the name says: a suffix, or `://` for a database's URL. Numbers keep their type, text stays text.
"""

from __future__ import annotations

import csv
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, is_zipfile

import numpy as np

from worker.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SQLITE = (".sqlite", ".sqlite3", ".db")
SUPPORTED = (
    "CSV (.csv), Parquet (.parquet), NumPy (.npz), SQLite (.sqlite, .sqlite3, .db), or a database's SQLAlchemy URL"
)


def is_table(source: str) -> bool:
    """Whether a name is that of a table and not of a bundled data set."""
    return "://" in source or bool(Path(source).suffix)


def read_table(source: str, table: str | None = None) -> pd.DataFrame:
    """Read a whole table.

    Args:
        source: file, or URL such as `postgresql+psycopg://host/plant`.
        table: which table of a database; not needed where it has only one.

    Returns:
        Its rows in the order in which they are stored, numbered from 0.

    Raises:
        UsageError: it cannot be read; says why, and what can be.
    """
    try:
        import pandas as pd
    except ImportError as missing:
        raise UsageError(
            f"tables are read with pandas, which cannot be imported ({missing}): pip install 'cellstream[tables]'"
        ) from missing
    suffix = Path(source).suffix.lower()
    if "://" in source:
        return _read_database(source, table)
    if not Path(source).is_file():
        raise UsageError(f"{source}: no such file")
    if suffix in SQLITE:
        return _read_database(f"sqlite:///{source}", table)
    if table is not None:
        raise UsageError(f"{source}: --table chooses a table of a database; a {suffix or 'plain'} file has only one")
    readers = {".csv": _read_csv, ".parquet": pd.read_parquet, ".npz": _read_npz}
    if suffix not in readers:
        raise UsageError(f"{source}: not a table that can be read; supported are {SUPPORTED}")
    try:
        return readers[suffix](source)
    # OSError and ValueError are what numpy, pyarrow and pandas derive their own from.
    except (OSError, ValueError, BadZipFile, ImportError) as error:
        raise UsageError(f"{source}: cannot be read as {suffix}: {str(error).strip()}") from error


def _read_csv(source: str) -> pd.DataFrame:
    """Only empty fields are missing values: a class may well be called `NA` or `None`."""
    import pandas as pd

    try:
        with Path(source).open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            raise ValueError(f"columns of one name: {', '.join(map(repr, doubled))}")
        if len(header) == 1 and (divider := next((sign for sign in ";\t|" if sign in header[0]), None)):
            raise ValueError(f"its header is one column, {header[0][:80]!r}: divide by commas, not by {divider!r}")
        with warnings.catch_warnings():
            # Rows that are all longer than the header: pandas would shift the columns, or cut the rows, with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(source, keep_default_na=False, na_values=[""], low_memory=False, index_col=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"{error}: save it as UTF-8") from error
    except pd.errors.ParserWarning as warning:
        raise ValueError(f"its rows have more fields than its header ({warning})") from warning


def _read_npz(source: str) -> pd.DataFrame:
    """Each array `(rows,)` is a column under its name; `(rows, n)` are n columns `name_0`, `name_1`, ..."""
    import pandas as pd

    columns: dict[str, Any] = {}
    if not is_zipfile(source):
        raise ValueError("it is not an archive with an array for each column, as numpy.savez writes it")
    with np.load(source, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                array = arrays[name]
            except ValueError as error:
                raise ValueError(f"array {name!r}: {error}; write text as its own type, array.astype(str)") from error
            if array.dtype.kind == "S":
                array = np.char.decode(array, "utf-8")
            if array.ndim == 1:
                columns[name] = array
            elif array.ndim == 2:
                columns.update({f"{name}_{i}": array[:, i] for i in range(array.shape[1])})
            else:
                raise ValueError(f"array {name!r} has shape {array.shape}; expected (rows,) or (rows, columns)")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"arrays of one table have one length, received {lengths}")
    return pd.DataFrame(columns)


def _read_database(url: str, table: str | None) -> pd.DataFrame:
    try:
        import pandas as pd
        import sqlalchemy
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as missing:
        raise UsageError(
            f"databases are read with SQLAlchemy ({missing}): pip install 'cellstream[tables]'"
        ) from missing
    try:
        engine = sqlalchemy.create_engine(url)
        shown = engine.url.render_as_string(hide_password=True)
    except ImportError as missing:
        raise UsageError(f"the database's driver is not installed: {missing}") from None
    except SQLAlchemyError as error:
        # A URL that cannot be parsed is not shown: it may hold a password.
        raise UsageError(f"the database's URL cannot be used ({type(error).__name__}): {_reason(error)}") from None
    try:
        inspector = sqlalchemy.inspect(engine)
        names = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
        chosen = _choose(shown, names, table)
        with engine.connect() as connection:
            return pd.read_sql_table(chosen, connection)
    except SQLAlchemyError as error:
        raise UsageError(f"{shown}: {_reason(error)}") from None
    finally:
        engine.dispose()


def _choose(shown: str, names: list[str], table: str | None) -> str:
    if table is None and len(names) == 1:
        return names[0]
    if table in names:
        return table
    if table is None:
        raise UsageError(
            f"{shown}: has {len(names)} tables ({', '.join(names) or 'none'}): choose one with --table NAME"
        )
    near = get_close_matches(table, names, 1)
    raise UsageError(f"{shown}: no table {table!r}" + (f"; did you mean {near[0]!r}?" if near else f", only {names}"))


def _reason(error: Exception) -> str:
    """What the driver said, without the statement and the link that SQLAlchemy adds; URLs never show."""
    return str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
