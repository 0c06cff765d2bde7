"""2e. Every recurrent state into HDF5, and back into a second model, nested models too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from training.experiments.experiment import Findings, Setup
from training.experiments.streaming import sequences


def network(*, nested: bool) -> Any:
    """LSTM 5, LSTM 2, Dense 1, stateful, one sample at a time; nested: both LSTMs in a model of their own."""
    from keras import Input, Sequential, layers

    recurrent = [
        layers.LSTM(5, return_sequences=True, stateful=True, name="lstm_1"),
        layers.LSTM(2, stateful=True, name="lstm_2"),
    ]
    if nested:
        recurrent = [Sequential([Input(batch_shape=(1, 1, 3)), *recurrent], name="inner")]
    dense = layers.Dense(1, activation="sigmoid", name="probability")
    return Sequential([Input(batch_shape=(1, 1, 3)), *recurrent, dense])


def recurrent_layers(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every layer that keeps states, with its path, inside nested models too."""
    from keras import Model, layers

    for layer in model.layers:
        if isinstance(layer, Model):
            yield from recurrent_layers(layer, f"{path}{layer.name}/")
        elif isinstance(layer, layers.RNN):
            yield f"{path}{layer.name}", layer


def save_states(model: Any, file: Path) -> None:
    """Write every state as a data set `path/of/layer/0`, `.../1`; an LSTM's are h and c."""
    with h5py.File(file, "w") as states:
        for path, layer in recurrent_layers(model):
            for number, state in enumerate(layer.states):
                states[f"{path}/{number}"] = np.asarray(state)


def load_states(model: Any, file: Path) -> None:
    """Put every state of a file back where it was.

    Raises:
        KeyError: the model has a state that the file does not have.
    """
    with h5py.File(file, "r") as states:
        for path, layer in recurrent_layers(model):
            for number, state in enumerate(layer.states):
                state.assign(states[f"{path}/{number}"][()])


def saved_states(setup: Setup) -> Findings:
    """Step a model half the way, move its states into another one, and let both go on."""
    import keras

    findings = Findings()
    inputs, _ = sequences(1, setup.seed)
    for nested in (False, True):
        keras.utils.set_random_seed(setup.seed)
        first, second, fresh = (network(nested=nested) for _ in range(3))
        for other in (second, fresh):
            other.set_weights(first.get_weights())
        for sample in inputs[0, :4]:
            first.predict_on_batch(sample[None, None])
        file = setup.directory / f"states-{nested}.h5"
        save_states(first, file)
        load_states(second, file)
        kind = "nested" if nested else "plain"
        with h5py.File(file, "r") as written:
            names: list[str] = []
            written.visititems(lambda name, item, names=names: names.append(name) if hasattr(item, "shape") else None)
        findings.equal(f"{kind}: states written (h and c of two layers)", 4, len(names))
        answers = [
            np.array([model.predict_on_batch(sample[None, None]) for sample in inputs[0, 4:]])
            for model in (first, second, fresh)
        ]
        findings.equal(f"{kind}: the second model goes on as the first", True, np.array_equal(answers[0], answers[1]))
        off = float(np.abs(answers[0] - answers[2]).max())
        findings.at_least(f"{kind}: a model without the states is off by", 1e-4, off, ".1e")
    return findings
