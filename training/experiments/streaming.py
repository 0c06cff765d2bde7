"""2a and 2b. What cannot stream, and the stateful twin that takes one sample at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.exactness import streams_exactly
from training.experiments.experiment import Findings, Setup
from worker.errors import Refused

TIMESTEPS, FEATURES = 7, ("a", "b", "c")


def sequences(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs `(count, 7, 3)` and labels `(count, 1)`: 1 where the first feature has the larger sum."""
    inputs = np.random.default_rng(seed).normal(size=(count, TIMESTEPS, len(FEATURES))).astype(np.float32)
    return inputs, (inputs[..., 0].sum(axis=1) > inputs[..., 1].sum(axis=1)).astype(np.int64)[:, None]


def network(*, flatten: bool = False, stateful: bool = False) -> Any:
    """The network of 2a; without Flatten its last LSTM returns its last output, and it streams.

    Args:
        flatten: as it was: the last LSTM returns sequences, and Flatten lays its timesteps side by side.
        stateful: batches of one sample, one timestep; the LSTMs keep their states between calls.
    """
    from keras import Input, Sequential, layers

    batch_shape = (1, 1, 3) if stateful else (None, TIMESTEPS if flatten else None, 3)
    return Sequential(
        [
            Input(batch_shape=batch_shape),
            layers.LSTM(32, return_sequences=True, stateful=stateful, name="lstm_1"),
            layers.LeakyReLU(),
            layers.Dropout(0.2),
            layers.LSTM(16, return_sequences=flatten, stateful=stateful, name="lstm_2"),
            layers.Dropout(0.2),
            layers.LeakyReLU(),
            *([layers.Flatten(name="all_timesteps")] if flatten else []),
            layers.Dense(1, activation="sigmoid", name="probability"),
        ]
    )


def fit(model: Any, setup: Setup) -> Any:
    """Train on made sequences, and return the model."""
    import keras

    keras.utils.set_random_seed(setup.seed)
    inputs, labels = sequences(setup.pick(128, 1_000), setup.seed)
    # Not to the end: a network that decides steeply enlarges rounding, and the comparisons are about bits.
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    model.fit(inputs, labels, batch_size=32, epochs=setup.pick(2, 5), verbose=0)
    return model


def what_cannot_stream(setup: Setup) -> Findings:
    """2a. Flatten needs all timesteps at once: refused by name, with the remedy; the remedy is then exported."""
    from worker.artifact import write_artifact

    findings = Findings()
    refused = write_or_refusal(fit(network(flatten=True), setup), setup)
    findings.tell("what is said of it", refused)
    findings.equal("the refusal names Flatten and its layer", True, "Flatten" in refused and "all_timesteps" in refused)
    findings.equal("nothing is written", [], sorted(path.name for path in setup.directory.iterdir()))
    artifact = write_artifact(network(), setup.directory, features=FEATURES, classes=("first",))
    findings.equal(
        "without Flatten, and with the last output of the last LSTM, it streams", True, artifact.manifest.parity.holds
    )
    return findings


def write_or_refusal(model: Any, setup: Setup) -> str:
    """Export a model, and return why it was refused; empty if it was not."""
    from worker.artifact import write_artifact

    try:
        write_artifact(model, setup.directory, features=FEATURES, classes=("first",))
    except Refused as refusal:
        return str(refusal)
    return ""


def stateful_twin(setup: Setup) -> Findings:
    """2b. Batch 1, one sample at a time, reset at the end of each sequence; and the artifact, which needs no twin."""
    from worker import StreamingModel
    from worker.artifact import write_artifact

    findings = Findings()
    model = fit(network(), setup)
    twin = network(stateful=True)
    twin.set_weights(model.get_weights())
    inputs, _ = sequences(setup.pick(6, 50), setup.seed + 1)
    whole = model.predict(inputs, verbose=0)  # (n, 1)
    by_twin = np.array([_one_by_one(twin, sequence) for sequence in inputs])
    findings.at_most(
        "twin, sample by sample, against the whole sequence", 1e-6, float(np.abs(by_twin - whole).max()), ".1e"
    )
    without = np.array([_one_by_one(twin, sequence, reset=False) for sequence in inputs])
    forgotten = float(np.abs(without - whole).max())
    findings.at_least("the same without a reset in between: off by", 1e-3, forgotten, ".1e")
    write_artifact(model, setup.directory, features=FEATURES, classes=("first",))
    streaming = StreamingModel.load(setup.directory)
    by_artifact = np.array([streaming.run(sequence)[-1] for sequence in inputs])
    gap = float(np.abs(by_artifact - whole).max())
    streams_exactly(findings, "artifact, sample by sample, against the whole sequence", model, streaming, inputs, gap)
    return findings


def _one_by_one(twin: Any, sequence: NDArray[np.float32], *, reset: bool = True) -> NDArray[np.float32]:
    """The twin's answer to the last sample of a sequence, `(1,)`."""
    if reset:
        for name in ("lstm_1", "lstm_2"):
            twin.get_layer(name).reset_state()
    return [twin.predict_on_batch(sample[None, None])[0] for sample in sequence][-1]
