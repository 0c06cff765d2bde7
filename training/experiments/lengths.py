"""5a to 5c. Sequences of different lengths: padded, masked, grouped from a flat table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.experiment import Findings, Setup
from training.experiments.pictures import figure
from training.padding import padded_batches
from training.tables.grouping import group_rows

CLASSES, FEATURES = 13, 3
Floats = NDArray[np.float32]


def sequences(count: int, seed: int) -> tuple[list[Floats], NDArray[np.int64]]:
    """Waves of 12 to 40 timesteps in 13 classes of speed, `(timesteps, 3)` each, and labels `(count,)`."""
    chance = np.random.default_rng(seed)
    labels = chance.permutation(np.arange(count) % CLASSES)
    waves = []
    for label in labels:
        angles = np.arange(int(chance.integers(12, 41))) * 0.12 * (label + 1) + chance.uniform(0, 2 * np.pi)
        clean = np.stack([np.sin(angles), np.cos(angles), np.ones_like(angles)], axis=1)
        waves.append((clean + 0.05 * chance.normal(size=clean.shape)).astype(np.float32))
    return waves, labels


def padded(inputs: list[Floats], timesteps: int) -> Floats:
    """Zeros at the end of each: `(n, timesteps, 3)`."""
    import keras

    return keras.utils.pad_sequences(inputs, timesteps, dtype="float32", padding="post", value=0.0)


def network(units: int, dropout: float) -> Any:
    """Masking 0, LSTM with both dropouts, Dense 13 softmax."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((None, FEATURES)),
            layers.Masking(0.0),
            layers.LSTM(units, dropout=dropout, recurrent_dropout=dropout),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def masked_training(setup: Setup) -> Findings:
    """5a. Padded to a maximum and masked; the best weights and the last are saved as training goes."""
    import keras

    findings = Findings()
    original = network(128, 0.5).count_params()
    findings.equal("parameters: LSTM 128 and Dense 13", 4 * 128 * (FEATURES + 128 + 1) + 13 * 129, original)
    inputs, labels = sequences(setup.pick(260, 1_300), setup.seed)
    unseen, true = sequences(130, setup.seed + 1)
    validation = (padded(unseen, 40), true)
    best, last = setup.directory / "best.weights.h5", setup.directory / "last.weights.h5"
    keras.utils.set_random_seed(setup.seed)
    model = network(setup.pick(24, 128), setup.pick(0.1, 0.5))
    optimizer = keras.optimizers.Adam(setup.pick(2e-2, 2e-3))
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=not setup.quick)
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True, save_weights_only=True),
        keras.callbacks.ModelCheckpoint(last, save_weights_only=True),
    ]
    history = model.fit(
        padded(inputs, 40),
        labels,
        validation_data=validation,
        batch_size=10,
        epochs=setup.pick(5, 20),
        callbacks=callbacks,
        verbose=0,
    ).history
    for file, expected in ((best, min(history["val_loss"])), (last, history["val_loss"][-1])):
        model.load_weights(file)
        gap = abs(float(model.evaluate(*validation, verbose=0)) - expected)
        findings.at_most(f"{file.name}: its validation loss against the history's", 1e-4, gap, ".1e")
    model.load_weights(best)
    right = float((model.predict(validation[0], verbose=0).argmax(axis=1) == true).mean())
    findings.at_least("accuracy on held-out sequences (chance is 0.08)", setup.pick(0.25, 0.6), right)
    findings.pictures["loss"] = _draw(history)
    return findings


def masked_semantics(setup: Setup) -> Findings:
    """5b. What a mask means: the state stands still behind the last valid timestep; the padding may hold anything."""
    import keras
    from keras import Input, Model, layers

    findings = Findings()
    keras.utils.set_random_seed(setup.seed)
    inputs, _ = sequences(12, setup.seed)
    lengths = [len(sequence) for sequence in inputs]
    samples, mask = Input((None, FEATURES)), Input((None,), dtype="bool")
    outputs, h, c = layers.LSTM(8, return_sequences=True, return_state=True)(samples, mask=mask)
    model = Model([samples, mask], [outputs, h, c])
    valid = np.arange(40)[None] < np.array(lengths)[:, None]  # (n, 40)
    batch = padded(inputs, 40)
    told, h, c = (np.asarray(value) for value in model([batch, valid]))
    final = np.array([answers[length - 1] for answers, length in zip(told, lengths, strict=True)])
    findings.equal("the last valid output is h", True, np.array_equal(final, h))
    still = all((answers[length:] == answers[length - 1]).all() for answers, length in zip(told, lengths, strict=True))
    findings.equal("past the valid length the output stands still", True, still)

    noise = np.random.default_rng(setup.seed).normal(0, 1e3, batch.shape).astype(np.float32)
    other = [np.asarray(value) for value in model([np.where(valid[..., None], batch, noise), valid])]
    same = all(np.array_equal(one, two) for one, two in zip((told, h, c), other, strict=True))
    findings.equal("noise in the padding changes no bit of outputs and states", True, same)
    alone = [
        np.asarray(value)
        for sequence in inputs
        for value in model([sequence[None], np.ones((1, len(sequence)), bool)])[1:]
    ]
    gap = max(float(np.abs(alone[2 * i][0] - h[i]).max() + np.abs(alone[2 * i + 1][0] - c[i]).max()) for i in range(12))
    findings.at_most("states against each sequence alone, without padding", 1e-6, gap, ".1e")
    return findings


def grouped(setup: Setup) -> Findings:
    """5c. A flat table -> sequences with their lengths -> batches, each padded to its own longest."""
    import pandas as pd

    findings = Findings()
    inputs, _ = sequences(setup.pick(40, 400), setup.seed)
    owner = np.repeat(np.arange(len(inputs)), [len(sequence) for sequence in inputs])
    frame = pd.DataFrame(np.concatenate(inputs), columns=list("abc")).assign(stream=owner)
    shuffled = np.random.default_rng(setup.seed).permutation(len(frame))
    mixed = frame.assign(at=np.arange(len(frame))).iloc[shuffled].reset_index(drop=True)
    groups = group_rows(mixed, "stream", order="at")
    values = mixed[["a", "b", "c"]].to_numpy(np.float32)
    back = {group.stream_id: values[group.rows] for group in groups}
    same = all(np.array_equal(back[str(i)], sequence) for i, sequence in enumerate(inputs))
    findings.equal("a shuffled table grouped gives every sequence back", True, same)
    batches = padded_batches(inputs, 10)
    longest = all(batch.shape[1] == max(len(inputs[i]) for i in members) for members, batch in batches)
    findings.equal("each batch is as long as its longest sequence", True, longest)
    cells = sum(batch.shape[0] * batch.shape[1] for _, batch in batches)
    whole = len(inputs) * max(map(len, inputs))
    findings.at_most("timesteps computed (limit: padded to one maximum)", whole, cells, ",.0f")
    return findings


def _draw(history: dict[str, list[float]]) -> Any:
    drawing, axes = figure()
    for name, label in (("loss", "training"), ("val_loss", "validation")):
        axes[0, 0].plot(range(1, len(history[name]) + 1), history[name], label=label)
    axes[0, 0].axvline(int(np.argmin(history["val_loss"])) + 1, color="grey", linestyle=":", label="saved as the best")
    axes[0, 0].set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    axes[0, 0].legend()
    return drawing
