"""Laws of users' tables: what becomes of good ones, and what is said of bad ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.datasets import Sequences, split
from training.tables.columns import Columns
from training.tables.loading import dataset_name, sequences_of
from training.tables.report import describe, equal_sequences, lines
from worker.errors import UsageError

COLUMNS = Columns("pump", "state", ("pressure", "flow"), order="at")


def frame(streams: int = 24, classes: tuple[Any, ...] = ("ok", "worn"), seed: int = 0) -> pd.DataFrame:
    """Streams of 3 to 6 rows, all mixed, with one class each."""
    chance = np.random.default_rng(seed)
    rows = [
        (f"pump-{i}", at, chance.normal(), chance.normal(), classes[i % len(classes)])
        for i in range(streams)
        for at in range(3 + i % 4)
    ]
    return pd.DataFrame(
        [rows[i] for i in chance.permutation(len(rows))], columns=["pump", "at", "pressure", "flow", "state"]
    )


def loaded(table: pd.DataFrame, columns: Columns = COLUMNS, label_per: str = "auto") -> Sequences:
    return sequences_of(table, columns, "made", label_per)


def refusal(table: pd.DataFrame, columns: Columns = COLUMNS, label_per: str = "auto") -> str:
    with pytest.raises(UsageError) as refused:
        loaded(table, columns, label_per)
    return str(refused.value)


def test_rows_become_sequences_in_order_with_their_labels() -> None:
    table = frame()
    sequences = loaded(table)
    assert sorted(sequences.stream_ids) == sorted(table["pump"].unique())
    for name, inputs, label in zip(sequences.stream_ids, sequences.inputs, sequences.labels, strict=True):
        own = table[table["pump"] == name].sort_values("at")
        np.testing.assert_array_equal(inputs, own[["pressure", "flow"]].to_numpy(np.float32))
        assert {sequences.classes[label]} == set(own["state"])
    assert sequences.timestep_labels is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.permutations(range(40)))
def test_the_order_of_rows_does_not_matter_where_an_order_is_given(rows: list[int]) -> None:
    table = frame(9)
    mixed = table.iloc[[row for row in rows if row < len(table)]]
    one, other = loaded(table.iloc[sorted(mixed.index)]), loaded(mixed)
    by_name = dict(zip(one.stream_ids, one.inputs, strict=True))
    for name, inputs in zip(other.stream_ids, other.inputs, strict=True):
        np.testing.assert_array_equal(inputs, by_name[name])


def test_a_label_that_changes_is_learned_where_it_stands() -> None:
    table = frame()
    table.loc[(table["pump"] == "pump-4") & (table["at"] == 2), "state"] = "worn"
    sequences = loaded(table)
    assert sequences.timestep_labels is not None
    labels = dict(zip(sequences.stream_ids, sequences.timestep_labels, strict=True))
    assert list(labels["pump-4"]) == [0, 0, 1]
    assert list(labels["pump-5"]) == [1, 1, 1, 1]
    told = refusal(table, label_per="sequence")
    assert "('pump-4')" in told


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_class_of_few_timesteps_is_in_every_part(everywhere: bool) -> None:
    table = frame(40, ("ok",))
    hit = table["pump"].str.endswith(("3", "6")) | everywhere
    table.loc[hit & (table["at"] == 1), "state"] = "fault"
    sequences = loaded(table)
    parts = split(sequences, 1)
    counts = describe(sequences, parts)["classes"]
    assert sum(counts["ok"].values()) == 40
    assert sum(counts["fault"].values()) == (40 if everywhere else 8)
    assert min(counts["fault"].values()) >= 1


def test_a_stream_of_several_sequences_is_never_divided() -> None:
    table = frame(40).assign(shift=lambda made: made["at"] // 2)
    sequences = loaded(table, Columns("pump", "state", ("flow",), "at", "shift"))
    assert len(sequences) > 40
    assert len(set(sequences.stream_ids)) == len(sequences)
    parts = split(sequences, 3)
    assert parts.shared_streams() == []
    assert sum(map(len, (parts.train, parts.validation, parts.test))) == len(sequences)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("worn", "ok"), ("ok", "worn")),
        ((10, 9, 2), ("2", "9", "10")),
        ((1.0, 0.0), ("0", "1")),
        ((True, False), ("False", "True")),
        (("ü", "NA", "a b"), ("NA", "a b", "ü")),
    ],
)
def test_classes_have_any_name(classes: tuple[Any, ...], names: tuple[str, ...]) -> None:
    assert loaded(frame(30, classes)).classes == names


def test_every_problem_is_told_at_once_with_column_and_row() -> None:
    table = frame().astype({"pressure": object, "at": object})
    table.iloc[3, 2] = "high"
    table.iloc[[4, 6], 3] = np.nan
    table.iloc[7, 3] = 1e300
    table.iloc[8, 4] = None
    table.iloc[9, 0] = "x" * 257
    table.iloc[10, 0] = ""
    table["at"] = pd.date_range("2026-01-01", periods=len(table)).astype(str)
    table.iloc[11, 1] = "yesterday"
    told = refusal(table)
    for problem in (
        "column 'pressure', row 4 ('high'): not a number",
        "column 'flow', row 5, 7: missing",
        "column 'flow', row 8 ('1e+300'): not finite in float32",
        "column 'state', row 9: missing",
        "column 'pump', row 10: a stream ID of more than 256 bytes",
        "column 'pump', row 11: an empty stream ID",
        "column 'at', row 12 ('yesterday'): neither a number nor a time",
    ):
        assert problem in told
    assert "7 problems" in told


def test_a_column_that_is_not_there_hides_no_problem_of_the_others() -> None:
    table = frame().astype({"pressure": object})
    table.iloc[3, 2] = "high"
    told = refusal(table.drop(columns="flow").assign(state=0.5))
    for problem in ("no column 'flow'", "column 'pressure', row 4 ('high'): not a number", "(regression) cannot be"):
        assert problem in told
    assert "no column 'pump'" in refusal(table.drop(columns="pump"))


@pytest.mark.parametrize("name", ["pump", "state", "pressure", "at"])
def test_a_list_where_one_value_belongs_is_a_problem_with_its_row(name: str) -> None:
    table = frame().astype({name: object})
    table.at[2, name] = np.array([1.0, 2.0])
    assert f"column {name!r}, row 3 ('[1. 2.]'): several values in one place" in refusal(table)


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]", "complex128"])
def test_a_feature_is_a_number_and_not_what_could_be_made_one(kind: str) -> None:
    assert "and 103 more: not a number" in refusal(frame().assign(flow=np.arange(108).astype(kind)))


def test_labels_that_may_not_change_are_told_with_the_rows_where_they_do() -> None:
    told = refusal(frame().assign(state=lambda made: np.where(made["at"] < 2, "ok", "worn")), label_per="sequence")
    assert "and in 19 more sequences: the label changes within a sequence; with --label-per timestep" in told


def test_classes_with_too_few_streams_are_told_all_at_once() -> None:
    table = frame(24, ("ok",))
    rare = [table[table["pump"] == f"pump-{i}"].assign(state=f"rare-{i % 2}") for i in range(3)]
    sequences = loaded(pd.concat([table[table["pump"].str[-1] > "2"], *rare]))
    with pytest.raises(UsageError, match="'rare-0' has 2, 'rare-1' has 1; training, validation and test need one"):
        split(sequences)
    with pytest.raises(UsageError, match="class: 'rare-1' has 1; training and validation need one"):
        split(sequences, held_out=0)


def test_many_rows_of_one_problem_are_counted() -> None:
    assert "and 4 more: missing" in refusal(frame().assign(flow=lambda made: made["flow"].where(made.index > 8)))


def test_a_moment_twice_in_a_sequence_is_refused() -> None:
    told = refusal(pd.concat([frame(), frame().iloc[:1]], ignore_index=True))
    assert "a moment that its sequence has more than once" in told


def test_names_of_columns_are_checked_with_a_hint() -> None:
    told = refusal(frame(), Columns("pumps", "state", ("pressure", "state", "pump", "pressure"), "at"))
    assert "no column 'pumps'; did you mean 'pump'?" in told
    assert "'state' is the label and cannot be a feature" in told
    assert "occur more than once" in told


@pytest.mark.parametrize("value", [0.5, float("inf")])
def test_a_number_to_predict_is_refused_with_what_is_supported(value: float) -> None:
    told = refusal(frame(24, (1.0, value)))
    assert f"holds {value:g}: a number to predict (regression)" in told
    assert "supported are classes" in told


def test_many_whole_numbers_look_like_a_number_to_predict() -> None:
    assert "looks like a number to predict" in refusal(frame(120, tuple(range(60))))


def test_one_class_cannot_be_learned() -> None:
    assert "one class only, 'ok'" in refusal(frame(classes=("ok",)))


def test_an_empty_table_says_so() -> None:
    assert "there are no rows" in refusal(frame().iloc[:0])


def test_the_report_counts_and_warns() -> None:
    table = frame(60, ("ok", "ok", "worn")).assign(flow=1.0)
    twin = table[table["pump"] == "pump-0"]
    twins = [twin.assign(pump=f"twin-{i}") for i in range(12)]
    table.loc[table["pump"].isin([f"pump-{i}" for i in range(1, 60, 6)]), "state"] = "OK "
    sequences = loaded(pd.concat([table, *twins], ignore_index=True))
    parts = split(sequences, 0)
    facts = describe(sequences, parts)
    assert facts["sequences"] == 72
    assert facts["timesteps"] == {"all": 60 * 4 + 30 + 36, "shortest": 3, "median": 4.0, "longest": 6}
    assert sum(facts["classes"]["worn"].values()) == 20
    assert equal_sequences(parts)
    told = "\n".join(lines(facts))
    for word in ("'worn' (", "features that never change: 'flow'", "equal one that is trained on", "72 of 72 streams"):
        assert word in told
    assert "classes that differ in spaces or capitals only: 'OK ' and 'ok'" in told


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/pump runs.csv", "pump-runs"),
        ("postgresql+psycopg://user:secret@host/plant?sslmode=require", "plant"),
        ("sqlite://", "table"),
    ],
)
def test_a_data_set_is_named_after_its_table_only(source: str, name: str) -> None:
    if "?" in source:
        assert "secret" not in dataset_name(source, None)
        assert dataset_name(source, "runs") == "runs"
    else:
        assert dataset_name(source, None) == name
