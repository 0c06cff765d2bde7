"""A sample's columns and a model's inputs: which input takes which columns.

A model with several inputs is given the sample's features in the order of its inputs: the first input takes as many
columns as it has features, the next one the columns after them. An input `(batch, time)`, as for an Embedding, takes
one column, and an input of integers takes its columns cut to integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import NotStreamable


def columns_of(model: Any) -> list[range]:
    """The columns of a sample that each input takes.

    Raises:
        NotStreamable: an input is not one of timesteps.
    """
    taken: list[range] = []
    for tensor in model.inputs:
        shape = tuple(tensor.shape)
        per_timestep = (len(shape) == 3 and shape[2] is not None) or (len(shape) == 2 and shape[1] is None)
        if not per_timestep:
            raise NotStreamable(
                f"the model takes {', '.join(str(one.shape) for one in model.inputs)}, expected inputs "
                "(batch, time, features) with a fixed number of features, or keras.Input((None,)) for one number a "
                "timestep: give a description of the whole sequence to every one of its samples."
            )
        if tensor.dtype not in ("float32", "int32", "int64"):
            raise NotStreamable(f"the model takes {tensor.dtype}, expected float32 (or int32, for an Embedding).")
        start = taken[-1].stop if taken else 0
        taken.append(range(start, start + (shape[2] if len(shape) == 3 else 1)))
    return taken


def inputs_of(model: Any, samples: NDArray[np.float32]) -> Any:
    """What to call a Keras model with.

    Args:
        model: with inputs as `columns_of` takes them.
        samples: `(sequences, time, features)` float32.

    Returns:
        One array for each input, nested as the model has its inputs.
    """
    import keras

    parts = []
    for tensor, columns in zip(model.inputs, columns_of(model), strict=True):
        part = samples[:, :, columns.start : columns.stop]
        parts.append((part if len(tensor.shape) == 3 else part[:, :, 0]).astype(tensor.dtype))
    # A Sequential has one input, and no `input` of its own before it has been called symbolically.
    return parts[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, parts)
