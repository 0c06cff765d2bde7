"""3a to 3c. Echo: say a value again. In sight it is easy; a state that no gradient crosses teaches nothing.

Sequences of 25 integers in 0..99, fresh ones for every training step, one-hot encoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training.experiments.experiment import Findings, Setup

TIMESTEPS = 25


def encode(values: NDArray[np.int64], alphabet: int) -> NDArray[np.float32]:
    """Integers of any shape -> one-hot float32, with the alphabet as last axis.

    Raises:
        IndexError: a value is not in 0..alphabet-1.
    """
    if values.size and values.min() < 0:
        raise IndexError(f"values are in 0..{alphabet - 1}, received {values.min()}")
    return np.eye(alphabet, dtype=np.float32)[values]


def decode(one_hot: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The inverse of `encode`; of probabilities, the likeliest value."""
    return one_hot.argmax(axis=-1).astype(np.int64)


@dataclass(frozen=True)
class Lesson:
    """What one training step shows.

    Attributes:
        window: timesteps in sight.
        target: index in the window of the value to say; -1 is the current value, -2 the previous one.
        batch: windows of one training step, in the order of time.
        first: index of the first window of a sequence that is used; earlier ones would lack their target, or
            not fill a batch.
    """

    window: int
    target: int
    batch: int
    first: int

    def batches(self, values: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Windows `(batch, window)` of one sequence and their targets `(batch,)`."""
        ends = np.arange(self.first + self.window - 1, len(values))
        windows = sliding_window_view(values, self.window)[self.first :]  # (n, window)
        targets = values[ends + self.target + 1]
        for begin in range(0, len(windows) - self.batch + 1, self.batch):
            yield windows[begin : begin + self.batch], targets[begin : begin + self.batch]


CURRENT = Lesson(window=1, target=-1, batch=1, first=0)
PREVIOUS, ONE_BY_ONE = -2, 6
MISTAKE = Lesson(window=1, target=PREVIOUS, batch=ONE_BY_ONE, first=1)  # (6, 1, 100), four to a sequence
CONTEXT = Lesson(window=5, target=PREVIOUS, batch=5, first=1)  # (5, 5, 100), four to a sequence


def network(units: int, alphabet: int, lesson: Lesson, *, stateful: bool) -> Any:
    """LSTM, Dense softmax; one answer for each window."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input(batch_shape=(lesson.batch, lesson.window, alphabet)),
            layers.LSTM(units, stateful=stateful, name="lstm"),
            layers.Dense(alphabet, activation="softmax", name="value"),
        ]
    )


def teach(setup: Setup, lesson: Lesson, units: int, alphabet: int, count: int, *, stateful: bool, rate: float) -> Any:
    """Train on fresh sequences, in order; a state is carried through a sequence and reset behind it."""
    import keras

    keras.utils.set_random_seed(setup.seed)
    model = network(units, alphabet, lesson, stateful=stateful)
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy")
    for values in fresh(count, alphabet, setup.seed):
        for windows, targets in lesson.batches(values):
            model.train_on_batch(encode(windows, alphabet), encode(targets, alphabet))
        if stateful:
            model.get_layer("lstm").reset_state()
    return model


def accuracy(model: Any, lesson: Lesson, alphabet: int, seed: int, count: int = 20) -> float:
    """Share of targets that are said on fresh sequences."""
    right = []
    for values in fresh(count, alphabet, seed + 1_000_003):
        for windows, targets in lesson.batches(values):
            right.append(decode(model.predict_on_batch(encode(windows, alphabet))) == targets)
        if model.get_layer("lstm").stateful:
            model.get_layer("lstm").reset_state()
    return float(np.mean(right))


def fresh(count: int, alphabet: int, seed: int) -> NDArray[np.int64]:
    """Random sequences, `(count, 25)`."""
    return np.random.default_rng(seed).integers(0, alphabet, (count, TIMESTEPS))


def current_value(setup: Setup) -> Findings:
    """3a. Say the current value: nothing has to be remembered."""
    findings = Findings()
    values = fresh(10, 100, setup.seed)
    same = np.array_equal(decode(encode(values, 100)), values)
    findings.equal("decoding takes the encoding back", True, same)
    alphabet, count, rate = setup.pick((20, 80, 1e-2), (100, 500, 1e-3))
    model = teach(setup, CURRENT, 15, alphabet, count, stateful=False, rate=rate)
    findings.at_least(f"accuracy, {alphabet} values", 1.0, accuracy(model, CURRENT, alphabet, setup.seed))
    return findings


def beginners_mistake(setup: Setup) -> Findings:
    """3b. Say the previous value with one timestep in sight and the state carried on: no gradient ever reaches it.

    Rows of a stateful batch are streams of their own. Row i of a batch of six follows row i of the batch before, so
    what it carries on is a value six timesteps old; and with a batch of one the gradient would still end at its border.
    """
    findings = Findings()
    alphabet, count = 100, setup.pick(200, 2_000)
    model = teach(setup, MISTAKE, 50, alphabet, count, stateful=True, rate=setup.pick(1e-2, 1e-3))
    findings.at_most("accuracy (chance is 0.01)", 0.05, accuracy(model, MISTAKE, alphabet, setup.seed))
    return findings


def with_context(setup: Setup) -> Findings:
    """3c. Say the previous value with five timesteps in sight: the gradient runs through the window."""
    findings = Findings()
    alphabet, count, rate = setup.pick((20, 400, 1e-2), (100, 2_000, 3e-3))
    model = teach(setup, CONTEXT, 50, alphabet, count, stateful=True, rate=rate)
    findings.at_least(f"accuracy, {alphabet} values", 1.0, accuracy(model, CONTEXT, alphabet, setup.seed))
    return findings
