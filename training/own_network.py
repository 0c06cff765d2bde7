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
import traceback
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
        Refused: a stream could not advance it, or it gives no probabilities; found before it is trained.
    """
    import keras

    from worker.model.export import require_fit
    from worker.model.graph import StepGraph

    try:
        build = runpy.run_path(path).get("build")
        if not callable(build):
            raise UsageError(f"{path}: expected a function build(features, classes) that returns a Keras model")
        model = build(features, classes)
    except UsageError:
        raise
    except Exception as problem:  # the file is a user's, and may raise anything
        raise UsageError(f"{path}{_line(path, problem)}: {type(problem).__name__}: {problem}") from problem
    expected = (None, None, 1 if classes == 2 else classes)
    found = model.output_shape if isinstance(model, keras.Model) and model.built else type(model).__name__
    if found != expected:
        raise UsageError(
            f"{path}: expected build({features}, {classes}) to return a Keras model with answers {expected} (batch, "
            f"timesteps, outputs: for two classes one, a sigmoid), received {found}"
        )
    inputs, outputs = (tuple(map(str, range(count))) for count in (features, found[-1]))
    require_fit(StepGraph(model), inputs, outputs)
    return model


def _line(path: str, problem: Exception) -> str:
    """Where in the file it happened, if it was there."""
    own = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    return f", line {own[-1]}" if own else ""


def digest_of(path: str) -> str:
    """16 hexadecimal digits of the file: two files of one name are two networks.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as problem:
        raise UsageError(f"{path}: {problem}") from problem
