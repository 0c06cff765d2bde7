"""The weights of an artifact as the peers read them: one flat file, see `streams/src/main/java/peer/Lstm.java`."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from worker.artifact import Artifact
from worker.errors import UsageError


def write_weights(artifact: Artifact, path: Path) -> Path:
    """Write layers of LSTM, each with a LeakyReLU behind it, and one sigmoid.

    Raises:
        UsageError: the model is another one; the peers know only this kind.
    """
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    from worker.model.keras_file import open_model

    model = open_model(artifact.read_model(), str(artifact.model_path))
    lstm = [layer for layer in model.layers if isinstance(layer, keras.layers.LSTM)]
    slopes = {float(layer.negative_slope) for layer in model.layers if isinstance(layer, keras.layers.LeakyReLU)}
    dense = model.layers[-1]
    known = (keras.layers.LSTM, keras.layers.LeakyReLU, keras.layers.Dropout, keras.layers.InputLayer)
    if len(slopes) != 1 or dense.units != 1 or not all(isinstance(layer, known) for layer in model.layers[:-1]):
        raise UsageError("the peers know LSTM layers, each with the same LeakyReLU, and one sigmoid")
    parts = [struct.pack("<iif", len(artifact.manifest.features), len(lstm), slopes.pop())]
    for layer in lstm:
        parts.append(struct.pack("<i", layer.units))
        parts += [np.asarray(weights, "<f4").tobytes() for weights in layer.get_weights()]
    parts += [np.asarray(weights, "<f4").tobytes() for weights in dense.get_weights()]
    path.write_bytes(b"".join(parts))
    return path
