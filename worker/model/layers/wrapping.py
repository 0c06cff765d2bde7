"""TimeDistributed, and Masking: the layers about time itself."""

from __future__ import annotations

import keras

from worker.model.layers.rule import Call, Flow, Rule, State, Value, Values, make_rule, refuse, require_time, rule


@rule(keras.layers.TimeDistributed)
class Distributed(Rule):
    """The wrapped layer on every timestep: it sees `(batch, ...)` without time."""

    def __init__(self, call: Call) -> None:
        require_time(call)
        super().__init__(call)
        wrapped, flow = self.layer.layer, call.flow
        inside = (flow.shape[0], *flow.shape[2:])
        shape = tuple(wrapped.compute_output_shape(inside))
        # Keras hands the mask on to wrapped layers that take one, for each timestep without its axis.
        inner = make_rule(Call(wrapped, (Flow(inside, temporal=False, masked=flow.masked),), (shape,)))
        if inner.slots:
            raise refuse(
                self.layer, f"the wrapped {type(wrapped).__name__} keeps state", "Use the layer without TimeDistributed"
            )
        self.inner = inner
        self.outputs = call.flowing(True, flow.masked)

    @property
    def activation(self) -> str:
        """That of the wrapped layer."""
        return self.inner.activation

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        (value,) = values
        ((inner, _),), _ = self.inner.step((Value(value.tensor[:, 0]),), ())
        return (Value(inner[:, None], value.mask),), state


class TimeTaken(Rule):
    """What enters a model that is wrapped in TimeDistributed: the timestep without its axis."""

    def __init__(self, call: Call) -> None:
        require_time(call)
        super().__init__(call)
        if call.flow.masked:
            raise refuse(
                self.layer, "Keras hands the mask on to the wrapped model", "Put the model before the Masking layer"
            )
        self.outputs = call.flowing(False)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        return (Value(values[0].tensor[:, 0]),), state


class TimeGiven(Rule):
    """What leaves such a model: the axis of time is back."""

    def __init__(self, call: Call, last: Rule | None) -> None:
        super().__init__(call)
        self._last = last
        self.outputs = call.flowing(True)

    @property
    def activation(self) -> str:
        """That of the wrapped model's last layer."""
        return super().activation if self._last is None else self._last.activation

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        return (Value(values[0].tensor[:, None]),), state


@rule(keras.layers.Masking)
class Masked(Rule):
    """Where every feature equals the mask value, the timestep is masked and its features are zeros."""

    def __init__(self, call: Call) -> None:
        require_time(call)
        if call.flow.rank != 3:
            raise refuse(call.layer, f"its mask would have {call.flow.rank - 1} axes", "Mask (batch, time, features)")
        super().__init__(call)
        self.outputs = call.flowing(True, masked=True)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensor = values[0].tensor
        mask = self.layer.compute_mask(tensor)  # (batch, 1)
        return (Value(keras.ops.where(mask[..., None], tensor, 0.0), mask),), state
