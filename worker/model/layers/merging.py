"""Layers that merge several tensors of one timestep, and their masks as Keras merges them."""

from __future__ import annotations

import keras

from worker.model.layers.rule import Call, Rule, State, Value, Values, refuse, require_axes, rule


@rule(
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
class Merged(Rule):
    """Called as it is, with the masks where Keras looks for them: Maximum and Minimum choose by them."""

    several = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_one_kind(call)
        self.outputs = call.flowing(call.flow.temporal, self.keeps_mask(call))

    def keeps_mask(self, call: Call) -> bool:
        """Whether a mask comes out: where all tensors have one."""
        return all(flow.masked for flow in call.flows)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensors = [keras.ops.copy(tensor) for tensor, _ in values]
        for tensor, (_, mask) in zip(tensors, values, strict=True):
            tensor._keras_mask = mask
        output = self.layer(tensors)
        mask = getattr(output, "_keras_mask", None) if self.outputs[0].masked else None
        return (Value(keras.ops.copy(output), mask),), state


@rule(keras.layers.Concatenate)
class Joined(Merged):
    """Side by side along an axis of the timestep; a timestep is masked where it is masked in all of them."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_axes(call, self.layer.axis)
        if self.outputs[0].masked and call.flow.rank != 3:
            raise refuse(
                self.layer, f"Keras cannot join masks of {call.flow.rank} axes", "Join (batch, time, features)"
            )

    def keeps_mask(self, call: Call) -> bool:
        """Whether a mask comes out: where any tensor has one."""
        return any(flow.masked for flow in call.flows)


@rule(keras.layers.Dot)
class Products(Merged):
    """Products of what describes the sequence so far; over time Keras multiplies every timestep with every other."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if call.flow.temporal:
            raise refuse(
                self.layer,
                "it multiplies every timestep with every other",
                "Multiply, then Dense or EinsumDense, act within a timestep; Dot may join last outputs",
            )

    def keeps_mask(self, call: Call) -> bool:
        """Keras drops it."""
        return False


def require_one_kind(call: Call) -> None:
    """Refuse to merge every timestep with what describes the whole sequence, and tensors of several ranks."""
    if len({flow.temporal for flow in call.flows}) > 1:
        raise refuse(
            call.layer,
            "it merges every timestep with what describes the whole sequence, its end included",
            "Merge it with outputs of return_sequences=True, or merge last outputs only",
        )
    if call.flow.temporal and len({flow.rank for flow in call.flows}) > 1:
        ranks = ", ".join(str(flow.rank) for flow in call.flows)
        raise refuse(
            call.layer, f"its tensors have {ranks} axes, and time is not the same one of them", "Reshape them first"
        )
