"""4a and 4b. From visit times to the next interval, as a number and as a class; and several series in one model."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training.experiments.experiment import Findings, Setup
from training.tables.grouping import group_rows
from training.tables.reading import read_table

WINDOW, BIN_DAYS, BINS = 3, 20, 5
Floats = NDArray[np.float32]


def visits(people: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """A flat table of visits: a person's number and the day, in the order of the day, everybody's interleaved.

    Everybody comes in a rhythm of their own: three intervals, of 0 to 99 days, that come again and again, give or take.
    """
    chance = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        rhythm = chance.integers(3, 95, WINDOW)
        intervals = np.clip(np.tile(rhythm, 4) + chance.integers(-2, 3, 12), 0, 99)
        days = chance.integers(0, 30) + np.concatenate([[0], np.cumsum(intervals)])
        rows += [(int(day), person) for day in days]
    days, persons = (np.array(column, np.int64) for column in zip(*sorted(rows), strict=True))
    return {"person": persons, "day": days}


def windows(table: Any) -> tuple[Floats, Floats]:
    """Three intervals in a row `(n, 3, 1)` and the next `(n,)`, in days, of every person of a table of visits."""
    inputs, targets = [], []
    for group in group_rows(table, "person", order="day"):
        intervals = np.diff(table["day"].to_numpy()[group.rows])
        if len(intervals) > WINDOW:
            cut = sliding_window_view(intervals, WINDOW + 1)  # (n, 4)
            inputs.append(cut[:, :WINDOW, None])
            targets.append(cut[:, WINDOW])
    return np.concatenate(inputs).astype(np.float32), np.concatenate(targets).astype(np.float32)


def store(columns: dict[str, NDArray[np.int64]], directory: Path) -> tuple[str, str]:
    """The same visits as a CSV file and as a table of a database; returns both paths."""
    import pandas as pd

    frame = pd.DataFrame(columns)
    csv, database = directory / "visits.csv", directory / "visits.sqlite"
    frame.to_csv(csv, index=False)
    connection = sqlite3.connect(database)
    frame.to_sql("visits", connection, index=False)
    connection.close()
    return str(csv), str(database)


def network(units: tuple[int, ...], outputs: int) -> Any:
    """At most three LSTM layers on scaled days, and a Dense: one number, or a softmax over the bins."""
    from keras import Input, Sequential, layers

    assert 1 <= len(units) <= 3, f"one to three LSTM layers, not {len(units)}"
    stack = [layers.LSTM(size, return_sequences=i + 1 < len(units)) for i, size in enumerate(units)]
    head = layers.Dense(1) if outputs == 1 else layers.Dense(outputs, activation="softmax")
    return Sequential([Input((None, 1)), layers.Rescaling(1 / 100), *stack, head])


def next_interval(setup: Setup) -> Findings:
    """4a. Regression and classification of the next interval, from a file and from a database."""
    import keras

    findings = Findings()
    csv, database = store(visits(setup.pick(120, 600), setup.seed), setup.directory)
    inputs, targets = windows(read_table(csv))
    from_database = windows(read_table(database))
    same = np.array_equal(inputs, from_database[0]) and np.array_equal(targets, from_database[1])
    findings.equal("CSV and database give the same windows", True, same)
    order = np.random.default_rng(setup.seed).permutation(len(inputs))
    test, train = np.split(order, [len(order) // 5])  # 1 : 4
    findings.tell("windows, trained on and held out", f"{len(train)} and {len(test)}")
    units, epochs = setup.pick((16,), (64, 32)), setup.pick(12, 60)

    keras.utils.set_random_seed(setup.seed)
    regression = network(units, 1)
    regression.compile(keras.optimizers.RMSprop(1e-2 if setup.quick else 2e-3), "mae")
    regression.fit(inputs[train], targets[train, None] / 100, batch_size=32, epochs=epochs, verbose=0)
    said = regression.predict(inputs[test], verbose=0)[:, 0] * 100
    plain = float(np.abs(targets[test] - np.median(targets[train])).mean())
    error = float(np.abs(said - targets[test]).mean())
    findings.at_most("regression: mean error in days (limit: half that of saying the median)", plain / 2, error, ".1f")

    bins = np.minimum(targets // BIN_DAYS, BINS - 1).astype(np.int64)
    keras.utils.set_random_seed(setup.seed)
    classes = network(units, BINS)
    classes.compile(keras.optimizers.RMSprop(1e-2 if setup.quick else 2e-3), "categorical_crossentropy")
    one_hot = np.eye(BINS, dtype=np.float32)[bins]
    classes.fit(inputs[train], one_hot[train], batch_size=32, epochs=epochs, verbose=0)
    right = float((classes.predict(inputs[test], verbose=0).argmax(axis=1) == bins[test]).mean())
    frequent = float(np.bincount(bins[test]).max() / len(test))
    findings.at_least(f"5 bins of 20 days: accuracy (the most frequent bin: {frequent:.2f})", 0.6, right)

    again = _saved_and_loaded(classes, setup.directory)
    equal = np.array_equal(again.predict(inputs[test], verbose=0), classes.predict(inputs[test], verbose=0))
    findings.equal("architecture by JSON and weights by HDF5, loaded back: the same answers", True, equal)
    return findings


def _saved_and_loaded(model: Any, directory: Path) -> Any:
    """A model through a JSON file and a file of weights."""
    import keras

    (directory / "architecture.json").write_text(model.to_json())
    model.save_weights(directory / "model.weights.h5")
    again = keras.models.model_from_json((directory / "architecture.json").read_text())
    again.load_weights(directory / "model.weights.h5")
    return again


def series(count: int, seed: int) -> tuple[list[Floats], NDArray[np.int64]]:
    """Two series `(count, 12, 1)` that rise or fall, and labels: 1 where both go one way. Neither tells it alone."""
    chance = np.random.default_rng(seed)
    ways = chance.integers(0, 2, (count, 2))
    slope = np.linspace(0, 2, 12)
    both = (2 * ways - 1)[:, :, None] * slope + 0.4 * chance.normal(size=(count, 2, 12))
    return [both[:, i, :, None].astype(np.float32) for i in (0, 1)], (ways[:, 0] == ways[:, 1]).astype(np.int64)


def several_series(setup: Setup) -> Findings:
    """4b. One LSTM for each series, merged before the Dense layers; against the same with one series alone."""
    import keras
    from keras import Input, Model, layers

    findings = Findings()
    inputs, labels = series(setup.pick(300, 1_000), setup.seed)
    unseen, true = series(200, setup.seed + 1)
    for name, chosen, limit in (("both", (0, 1), True), ("the first alone", (0,), False)):
        keras.utils.set_random_seed(setup.seed)
        ends = [Input((None, 1)) for _ in chosen]
        read = [layers.LSTM(8)(end) for end in ends]
        merged = layers.Concatenate()(read) if len(read) > 1 else read[0]
        model = Model(ends, layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="tanh")(merged)))
        model.compile(keras.optimizers.RMSprop(1e-2), "binary_crossentropy")
        model.fit([inputs[i] for i in chosen], labels[:, None], batch_size=16, epochs=setup.pick(8, 15), verbose=0)
        said = model.predict([unseen[i] for i in chosen], verbose=0)[:, 0] >= 0.5
        right = float((said == (true == 1)).mean())
        if limit:
            findings.at_least(f"{name}: accuracy", 0.95, right)
        else:
            findings.at_most(f"{name}: accuracy (chance is 0.5)", 0.7, right)
    return findings
