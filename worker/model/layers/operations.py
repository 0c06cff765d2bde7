"""Bare operations of `keras.ops`: what `x + y`, `x[..., :3]` and the masks of a saved model are made of.

An operation has no mask of its own and drops that of its tensors, as in Keras.
"""

from __future__ import annotations

from typing import Any

import keras

from worker.model.layers.merging import require_one_kind
from worker.model.layers.rule import RULES, Call, Flow, Rule, State, Value, Values, refuse, require_axes

ELEMENTWISE = (
    "Absolute Add Cast Clip Cos Divide Equal Exp Expm1 Gelu Greater GreaterEqual Isnan LeakyRelu Less LessEqual Log "
    "Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum Multiply Negative NotEqual OnesLike Power Reciprocal Relu "
    "Sigmoid Sign Silu Sin Softplus Softsign Sqrt Square Subtract Tanh TrueDivide Where ZerosLike"
)
ALONG_AN_AXIS = ("All", "Any", "LogSoftmax", "Max", "Mean", "Min", "Softmax", "Sum")


class Operation(Rule):
    """An operation on tensors of one timestep, and on numbers."""

    several = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_one_kind(call)
        self._arguments = call.arguments
        for given in keras.tree.flatten(call.arguments):
            if not (
                isinstance(given, (keras.KerasTensor, bool, int, float, str, slice)) or given is None or given is ...
            ):
                raise refuse(
                    self.layer, "it takes an array from outside the model", "Keep constants in a layer's weights"
                )
        self.verify(call)
        self.outputs = call.flowing(call.flow.temporal)

    def verify(self, call: Call) -> None:
        """Refuse what does not act within a timestep."""

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensors = iter(values)
        arguments = keras.tree.map_structure(
            lambda given: next(tensors).tensor if isinstance(given, keras.KerasTensor) else given, self._arguments
        )
        return (Value(self.layer(*arguments[0], **arguments[1])),), state


class AlongAnAxis(Operation):
    """Sums and the like: along axes of the timestep."""

    def verify(self, call: Call) -> None:
        """Refuse the axis of time; without an axis it is all of them."""
        axis = self.layer.axis
        require_axes(call, range(call.flow.rank) if axis is None else axis)
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        if len(call.shapes[0]) < 2 or any(one % call.flow.rank < 1 for one in axes):
            raise refuse(self.layer, "it works along the batch axis", "Use axis=-1")


class Concatenated(Operation):
    """Side by side along an axis of the timestep."""

    def verify(self, call: Call) -> None:
        """Refuse the axes of batch and time."""
        require_axes(call, self.layer.axis)


class Expanded(Operation):
    """One more axis, behind time."""

    def verify(self, call: Call) -> None:
        """Refuse an axis before time."""
        axes = self.layer.axis if isinstance(self.layer.axis, (list, tuple)) else (self.layer.axis,)
        if call.flow.temporal and any(axis % (call.flow.rank + len(axes)) < 2 for axis in axes):
            raise refuse(self.layer, "it moves the axis of time", "Let the new axis be the last: axis=-1")


class Sliced(Operation):
    """Some of the features."""

    def verify(self, call: Call) -> None:
        """Refuse to cut the batch or time."""
        key = self._arguments[0][1]
        key = tuple(key) if isinstance(key, (tuple, list)) else (key,)  # a saved model has a list
        if len(call.flows) == 1 and Ellipsis in key:
            at = key.index(Ellipsis)
            key = (*key[:at], *[slice(None)] * (call.flow.rank - len(key) + 1), *key[at + 1 :])
        untouched = key[: 2 if call.flow.temporal else 1]
        if len(call.flows) > 1 or any(part != slice(None) for part in untouched) or None in key:
            raise refuse(self.layer, f"{key} chooses among timesteps", "Slice the last axis: x[..., a:b]")
        self._last = key[-1] if len(key) == call.flow.rank else None

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        columns, (output,) = call.flow.columns, self.outputs
        if columns is not None and call.flow.rank == 3 and self._last is not None:
            cut: Any = columns[self._last]
            kept = cut if isinstance(cut, range) else range(cut, cut + 1)
            self.outputs = (Flow(output.shape, output.temporal, columns=kept),)


def _register() -> None:
    """Find the classes by their names: Keras exports the functions only, and not every version has every one."""
    import keras.src.ops as source

    kinds: dict[str, Any] = {
        **dict.fromkeys(ELEMENTWISE.split(), Operation),
        **dict.fromkeys(ALONG_AN_AXIS, AlongAnAxis),
        "Concatenate": Concatenated,
        "ExpandDims": Expanded,
        "GetItem": Sliced,
    }
    for module in (source.core, source.numpy, source.nn):
        for name, kind in kinds.items():
            found = getattr(module, name, None)
            if isinstance(found, type) and issubclass(found, keras.Operation):
                RULES[found] = kind


_register()
