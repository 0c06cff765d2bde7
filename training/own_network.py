"""A network of one's own: a Python file with `build(features, classes)`.

    import keras

    def build(features: int, classes: int) -> keras.Model:
        return keras.Sequential([
            keras.Input((None, features)),
            keras.layers.GRU(24, return_sequences=True),
            keras.layers.Dense(1 if classes == 2 else classes, "sigmoid" if classes == 2 else "softmax"),
        ])

It is given scaled features, and answers after every timestep. Scaling before it, ensemble, smoothing and calibration
behind it are `train`'s.
"""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from typing import Any

from worker.errors import UsageError


def own_network(path: str, features: int, classes: int) -> Any:
    """What the file builds.

    Args:
        path: of the file; it is run.
        features: of the inputs.
        classes: how many, at least 2.

    Returns:
        A Keras model `(batch, timesteps, features)` -> `(batch, timesteps, outputs)`.

    Raises:
        UsageError: the file cannot be run or has no `build`, or what it builds is something else.
    """
    try:
        build = runpy.run_path(path).get("build")
    except (OSError, SyntaxError, ImportError) as problem:
        raise UsageError(f"{path}: {problem}") from problem
    if not callable(build):
        raise UsageError(f"{path}: expected a function build(features, classes) that returns a Keras model")
    import keras

    model = build(features, classes)
    expected = (None, None, 1 if classes == 2 else classes)
    found = model.output_shape if isinstance(model, keras.Model) and model.built else type(model).__name__
    if found != expected:
        raise UsageError(
            f"{path}: expected build({features}, {classes}) to return a Keras model with answers {expected} (batch, "
            f"timesteps, outputs: for two classes one, a sigmoid), received {found}"
        )
    return model


def digest_of(path: str) -> str:
    """16 hexadecimal digits of the file: two files of one name are two networks.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as problem:
        raise UsageError(f"{path}: {problem}") from problem
