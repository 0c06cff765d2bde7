"""4c. Classifying raw multichannel series with an LSTM, with a CNN, and with both; the causal CNN-LSTM streams.

The series are basic-motions: six channels of a wrist sensor as they were recorded, no feature engineering.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.datasets import load, split
from training.experiments.exactness import streams_exactly
from training.experiments.experiment import Findings, Setup
from training.networks import Scaling


def network(kind: str, scaling: Scaling, classes: int, filters: int, units: int) -> Any:
    """An answer for each series.

    Args:
        kind: `LSTM`, `CNN`, or `CNN-LSTM`: causal convolutions that an LSTM reads.
        scaling: of the training part.
        classes: how many.
        filters: of each convolution.
        units: of the LSTM.
    """
    from keras import Input, Sequential, layers

    stack: list[Any] = [
        Input((None, len(scaling.mean))),
        layers.Normalization(mean=scaling.mean, variance=scaling.variance),
    ]
    if "CNN" in kind:
        stack += [layers.Conv1D(filters, 5, padding="causal", activation="relu", name=f"conv_{i}") for i in (1, 2)]
    stack.append(layers.LSTM(units) if "LSTM" in kind else layers.GlobalAveragePooling1D())
    return Sequential([*stack, layers.Dropout(0.2), layers.Dense(classes, activation="softmax")])


def classifiers(setup: Setup) -> Findings:
    """Train the three on the same series, and stream the last."""
    import keras

    from worker import StreamingModel
    from worker.artifact import write_artifact

    findings = Findings()
    parts = split(load("basic-motions"), setup.seed)
    classes = parts.train.classes
    step = setup.pick(2, 1)  # the quick form reads every second sample
    inputs = np.stack([*parts.train.inputs, *parts.validation.inputs])[:, ::step]  # (n, timesteps, 6)
    labels = np.concatenate([parts.train.labels, parts.validation.labels])
    unseen, true = np.stack(parts.test.inputs)[:, ::step], parts.test.labels
    scaling = Scaling.of(tuple(inputs))
    filters, units, epochs = setup.pick((12, 12, 12), (32, 32, 80))
    model: Any = None
    for kind in ("LSTM", "CNN", "CNN-LSTM"):
        keras.utils.set_random_seed(setup.seed)
        model = network(kind, scaling, len(classes), filters, units)
        model.compile(keras.optimizers.Adam(setup.pick(1e-2, 3e-3), clipnorm=1.0), "sparse_categorical_crossentropy")
        model.fit(inputs, labels, batch_size=8, epochs=epochs, verbose=0)
        right = float((model.predict(unseen, verbose=0).argmax(axis=1) == true).mean())
        findings.at_least(f"{kind}, {model.count_params():,} parameters: accuracy on held-out series", 0.75, right)
    write_artifact(model, setup.directory, features=parts.train.features, classes=classes)
    streaming = StreamingModel.load(setup.directory)
    by_stream = np.array([streaming.run(sequence)[-1] for sequence in unseen])
    gap = float(np.abs(by_stream - model.predict(unseen, verbose=0)).max())
    streams_exactly(findings, "CNN-LSTM streamed, last answer against Keras", model, streaming, unseen, gap)
    return findings
