"""Laws of reading tables: one content, one frame, whatever it is stored in."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.tables.grouping import group_rows
from training.tables.reading import read_table
from worker.errors import UsageError

FRAME = pd.DataFrame(
    {
        "pump": ["a", "b", "a", "NA"],
        "at": [3, 1, 2, 0],
        "pressure": [1.5, -2.25, 1e-3, 7.0],
    }
)


def stored(directory: Path) -> dict[str, str]:
    """The same table in every form."""
    FRAME.to_csv(directory / "t.csv", index=False)
    FRAME.to_parquet(directory / "t.parquet")
    np.savez(directory / "t.npz", **{name: FRAME[name].to_numpy().astype(kind) for name, kind in KINDS.items()})
    connection = sqlite3.connect(directory / "t.db")
    FRAME.to_sql("readings", connection, index=False)
    connection.close()
    database = directory / "t.db"
    files = {suffix: str(directory / f"t.{suffix}") for suffix in ("csv", "parquet", "npz", "db")}
    return {**files, "url": f"sqlite:///{database}"}


KINDS: dict[str, Any] = {"pump": "U2", "at": np.int64, "pressure": np.float64}


def test_every_form_of_a_table_reads_as_the_same_rows(tmp_path: Path) -> None:
    for form, source in stored(tmp_path).items():
        read = read_table(source)
        assert list(read.columns) == list(FRAME.columns), form
        assert [str(pump) for pump in read["pump"]] == list(FRAME["pump"]), form
        np.testing.assert_array_equal(read[["at", "pressure"]].to_numpy(), FRAME[["at", "pressure"]].to_numpy(), form)


def test_a_matrix_in_an_npz_is_one_column_for_each_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.arange(6.0).reshape(3, 2), y=np.arange(3))
    assert list(read_table(str(tmp_path / "t.npz")).columns) == ["x_0", "x_1", "y"]


def test_what_cannot_be_read_says_what_can(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    (tmp_path / "t.npz").write_bytes(b"no zip")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    np.savez(tmp_path / "uneven.npz", a=np.arange(3), b=np.arange(4))
    np.savez(tmp_path / "pickled.npz", a=np.array([{"code": 1}], object))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.arange(3))
    texts = {
        "latin.csv": "süd,x\n".encode("latin-1"),
        "semicolons.csv": b"pump;at;x\na;1;0,5\n",
        "twice.csv": b"pump,x,x\na,1,2\n",
        "longer.csv": b"pump,x\na,1,2\nb,3,4\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    for name, word in {
        "t.xlsx": "supported are CSV",
        "t.npz": "cannot be read as .npz",
        "t.parquet": "cannot be read as .parquet",
        "uneven.npz": "one length",
        "pickled.npz": r"array 'a': .*write text as its own type",
        "array.npz": "not an archive with an array for each column",
        "latin.csv": "save it as UTF-8",
        "semicolons.csv": "'pump;at;x': divide by commas, not by ';'",
        "twice.csv": "columns of one name: 'x'",
        "longer.csv": "more fields than its header",
        "missing.csv": "no such file",
    }.items():
        with pytest.raises(UsageError, match=word):
            read_table(str(tmp_path / name))


def test_commas_at_the_end_of_every_row_move_no_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("pump,at,x\na,1,0.5,\nb,2,0.25,\n")
    assert read_table(str(tmp_path / "t.csv")).to_numpy().tolist() == [["a", 1, 0.5], ["b", 2, 0.25]]


def test_bytes_in_an_npz_are_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", pump=np.array(["süd".encode(), b"b"]), x=np.arange(2))
    assert read_table(str(tmp_path / "t.npz"))["pump"].tolist() == ["süd", "b"]


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(UsageError, match="driver is not installed: No module named"):
        read_table("mssql+pymssql://user:sesame@host/base")


def test_a_database_of_several_tables_asks_which(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    for name in ("readings", "visits"):
        FRAME.to_sql(name, connection, index=False)
    connection.close()
    source = str(tmp_path / "t.db")
    with pytest.raises(UsageError, match=r"readings, visits.*--table"):
        read_table(source)
    with pytest.raises(UsageError, match="did you mean 'visits'"):
        read_table(source, "visit")
    assert len(read_table(source, "visits")) == len(FRAME)


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    for url in ("sqlite://user:sesame@/none/there.db", "nosuch://user:sesame@host/base", "://user:sesame@host"):
        with pytest.raises(UsageError) as refused:
            read_table(url)
        assert "sesame" not in str(refused.value)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-5, 5)), max_size=30))
def test_groups_hold_every_row_once_in_order_of_time(rows: list[tuple[int, int, int]]) -> None:
    table = pd.DataFrame(rows, columns=["stream", "part", "at"]).assign(value=0.5)
    groups = group_rows(table, "stream", "at", "part")
    assert sorted(row for group in groups for row in group.rows) == list(range(len(rows)))
    assert len({(group.stream_id, group.sequence) for group in groups}) == len(groups)
    for group in groups:
        members = [rows[row] for row in group.rows]
        assert {(str(stream), str(part)) for stream, part, _ in members} == {(group.stream_id, group.sequence)}
        times = [(at, row) for row, (_, _, at) in zip(group.rows, members, strict=True)]
        assert times == sorted(times)  # equal times keep the table's order
