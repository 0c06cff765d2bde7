"""Layers and cells of your own: what a class has to promise to be streamed, and how to say so.

    import keras
    from worker.model.layers import per_timestep_layer, recurrent_cell

    @per_timestep_layer
    @keras.saving.register_keras_serializable("pumps")
    class Scale(keras.layers.Layer): ...

`per_timestep_layer` promises that the layer treats every timestep alone; `recurrent_cell` that a class is a cell of
`keras.layers.RNN` as Keras defines it; `rule` takes a whole `Rule`, for a layer that remembers. A model file names
classes and holds no code of theirs, so the commands have to know where it is: an installed package names the modules
that register them, under the entry points `cellstream.layers`. Nothing else is ever imported because of a model file.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import keras

from worker.model.layers.per_timestep import PerTimestep
from worker.model.layers.recurrent import CELLS
from worker.model.layers.rule import RULES, rule

GROUP = "cellstream.layers"


def per_timestep_layer(layer_class: Any) -> Any:
    """Promise that a layer's `call(inputs)` treats every timestep of `(batch, time, ...)` alone, and keeps nothing.

    Args:
        layer_class: a subclass of `keras.layers.Layer` of one tensor in and out, and time on axis 1 of both.

    Returns:
        The class.
    """
    rule(layer_class)(PerTimestep)
    return layer_class


def recurrent_cell(cell_class: Any) -> Any:
    """Promise that a class is a cell of `keras.layers.RNN`: `call(inputs, states)`, `state_size`, float32 states.

    Args:
        cell_class: a subclass of `keras.layers.Layer`.

    Returns:
        The class.
    """
    CELLS.add(cell_class)
    return cell_class


def load_registered() -> None:
    """Import what installed packages name under the entry points `cellstream.layers`."""
    for point in entry_points(group=GROUP):
        point.load()


def is_registered(registered_name: Any, class_name: Any) -> bool:
    """Whether a class of a model file is one that code on this machine has vouched for.

    Args:
        registered_name: as Keras writes it: `package>Class`.
        class_name: what the file says beside it. Keras looks by the registered name for a class only: a file that
            calls it a function, or by another name, means something else.
    """
    if not isinstance(registered_name, str):
        return False
    found = keras.saving.get_registered_object(registered_name)
    return isinstance(found, type) and (found in RULES or found in CELLS) and found.__name__ == class_name
