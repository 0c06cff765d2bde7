"""3d and 3e. Echo without carried state, with missing values, over whole sequences, at other lags; streamed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.echo import CONTEXT, TIMESTEPS, accuracy, decode, encode, fresh, teach
from training.experiments.experiment import Findings, Setup

MISSING = -1.0
WINDOW = 5
Floats = NDArray[np.float32]
Examples = tuple[Floats, NDArray[np.int64]]


def windows_with_missing(values: NDArray[np.int64], alphabet: int) -> Examples:
    """Windows of five that begin before their sequence: what is not there yet is -1 in every place of the one-hot.

    Args:
        values: `(count, 25)`.
        alphabet: of them.

    Returns:
        `(count * 24, 5, alphabet)`, and the previous value of each, `(count * 24,)`; the first value has none.
    """
    encoded = encode(values, alphabet)
    before = np.full((len(values), WINDOW - 1, alphabet), MISSING, np.float32)
    padded = np.concatenate([before, encoded], axis=1)  # (count, 29, alphabet)
    windows = np.stack([padded[:, t : t + WINDOW] for t in range(1, TIMESTEPS)], axis=1)
    return windows.reshape(-1, WINDOW, alphabet), values[:, :-1].reshape(-1)


def growing(values: NDArray[np.int64], alphabet: int) -> Examples:
    """Each sequence as far as it has come, its end padded with -1: `(count * 24, 25, alphabet)`, `(count * 24,)`."""
    encoded = encode(values, alphabet)
    grown = np.full((len(values), TIMESTEPS - 1, TIMESTEPS, alphabet), MISSING, np.float32)
    for t in range(1, TIMESTEPS):
        grown[:, t - 1, : t + 1] = encoded[:, : t + 1]
    return grown.reshape(-1, TIMESTEPS, alphabet), values[:, :-1].reshape(-1)


def masked_network(units: int, alphabet: int) -> Any:
    """Masking, LSTM, Dense softmax: one answer for each window."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((None, alphabet)),
            layers.Masking(MISSING),
            layers.LSTM(units),
            layers.Dense(alphabet, activation="softmax"),
        ]
    )


def lagged_network(units: int, alphabet: int) -> Any:
    """LSTM that returns sequences, Dense softmax: an answer after every timestep. This one streams."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((None, alphabet)),
            layers.LSTM(units, return_sequences=True, name="lstm"),
            layers.Dense(alphabet, activation="softmax", name="value"),
        ]
    )


def lagged(model: Any, setup: Setup, alphabet: int, lag: int, count: int, epochs: int) -> float:
    """Teach a network that answers every timestep to say the value `lag` timesteps ago, and return its accuracy.

    The first `lag` timesteps have nothing to say: their weight is 0.
    """
    import keras

    optimizer = keras.optimizers.Adam(setup.pick(3e-2, 1e-2))
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=not setup.quick)
    values = fresh(count, alphabet, setup.seed)
    weights = np.broadcast_to((np.arange(TIMESTEPS) >= lag).astype(np.float32), values.shape)
    targets = np.roll(values, lag, axis=1)
    model.fit(encode(values, alphabet), targets, sample_weight=weights, batch_size=32, epochs=epochs, verbose=0)
    return lagged_accuracy(model, fresh(50, alphabet, setup.seed + 1), alphabet, lag)


def lagged_accuracy(model: Any, values: NDArray[np.int64], alphabet: int, lag: int) -> float:
    """Share of values said again, `lag` timesteps later."""
    said = decode(model.predict(encode(values, alphabet), verbose=0))
    return float((said[:, lag:] == values[:, : TIMESTEPS - lag]).mean())


def extensions(setup: Setup) -> Findings:
    """3d. The same echo, taught in other ways."""
    import keras

    findings = Findings()
    alphabet, units = setup.pick((10, 20), (100, 50))
    model = teach(setup, CONTEXT, units, alphabet, setup.pick(300, 2_000), stateful=False, rate=setup.pick(1e-2, 3e-3))
    findings.at_least(
        "without carried state: the window is enough", 0.99, accuracy(model, CONTEXT, alphabet, setup.seed)
    )

    for name, examples in (("missing values masked", windows_with_missing), ("growing, padded and masked", growing)):
        keras.utils.set_random_seed(setup.seed)
        model = masked_network(units, alphabet)
        optimizer = keras.optimizers.Adam(setup.pick(2e-2, 3e-3))
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=not setup.quick)
        inputs, targets = examples(fresh(setup.pick(40, 1_200), alphabet, setup.seed), alphabet)
        model.fit(inputs, targets, batch_size=32, epochs=setup.pick(6, 8), verbose=0)
        unseen, wanted = examples(fresh(10, alphabet, setup.seed + 1), alphabet)
        right = float((decode(model.predict(unseen, verbose=0)) == wanted).mean())
        findings.at_least(f"{name}: accuracy on {len(wanted)} fresh windows", 0.99, right)

    skills = []  # of the smaller network, by lag
    for lag in setup.pick((0, 3), (0, 1, 2, 4, 8)):
        for size in setup.pick((units,), (units, 2 * units)):
            started = time.process_time()
            keras.utils.set_random_seed(setup.seed)
            model = lagged_network(size, alphabet)
            skill = lagged(model, setup, alphabet, lag, setup.pick(200, 2_000), setup.pick(3, 15))
            skills += [skill] * (size == units)
            measured = f"accuracy {skill:.2f} in {time.process_time() - started:.0f} s of CPU"
            findings.tell(f"lag {lag}, {size} units, {model.count_params():,} parameters", measured)
    findings.at_most(
        "what is longer ago is harder: accuracy at the longest lag (limit: at lag 0)", skills[0], skills[-1]
    )
    return findings


def streamable(setup: Setup) -> tuple[Any, int]:
    """The last model of 3d at lag 1, and its alphabet: a lagged sequence out, with an answer after every timestep."""
    import keras

    alphabet, units, count, epochs = setup.pick((10, 20, 400, 12), (100, 100, 4_000, 30))
    keras.utils.set_random_seed(setup.seed)
    model = lagged_network(units, alphabet)
    lagged(model, setup, alphabet, 1, count, epochs)
    return model, alphabet


def names(alphabet: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Features and classes of an echo's artifact."""
    return tuple(f"is_{value}" for value in range(alphabet)), tuple(str(value) for value in range(alphabet))


def streamed(setup: Setup) -> Findings:
    """3e. The echo, sample by sample through its artifact, many streams at a time; tests serve it from a topic."""
    from worker import StreamingModel
    from worker.artifact import write_artifact

    findings = Findings()
    model, alphabet = streamable(setup)
    features, classes = names(alphabet)
    write_artifact(model, setup.directory, features=features, classes=classes)
    streaming = StreamingModel.load(setup.directory)
    values = fresh(40, alphabet, setup.seed + 2)
    states = streaming.initial_states(len(values))
    said = np.empty_like(values)
    for t in range(TIMESTEPS):
        answers, states = streaming.step(encode(values[:, t], alphabet), states)
        said[:, t] = decode(answers)
    echoed = float((said[:, 1:] == values[:, :-1]).mean())
    findings.at_least(f"values of 0..{alphabet - 1} said again by the stream, one sample later", 0.99, echoed)
    whole = decode(model.predict(encode(values, alphabet), verbose=0))
    findings.equal("answers that differ from Keras over the whole sequence", 0, int((said != whole).sum()))
    return findings
