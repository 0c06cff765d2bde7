"""Pooling over the whole sequence, as running statistics: every prefix is a whole sequence."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from worker.model.layers.rule import Call, Rule, Slot, State, Tensor, Value, Values, refuse, rule

# A float32 counts to 2**24 and then stands still. Two of them, the second in units of WORD, count to 2**44.
WORD = 1 << 20


class RunningPooling(Rule):
    """What pooling over time and pooling inside one timestep have in common."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if self.layer.data_format != "channels_last":
            raise refuse(self.layer, "channels_first puts the features before time", "Build it with channels_last")
        self.running = call.flow.temporal
        if call.flow.masked and not self.running:
            raise refuse(
                self.layer, "Keras hands the mask of the timesteps on to it", "Put it before the Masking layer"
            )
        self.outputs = call.flowing(False)
        self.features: Any = call.flow.shape[2:]

    def pooled(self, answer: Tensor) -> Values:
        """The answer `(batch, features)`, with the axis of time where `keepdims` leaves it."""
        return (Value(answer[:, None] if self.layer.keepdims else answer),)


@rule(keras.layers.GlobalMaxPooling1D)
class RunningMaximum(RunningPooling):
    """The largest value so far. As in Keras, a mask does not matter: Masking has put zeros there."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if self.running:
            lowest = np.full(self.features, np.finfo(np.float32).min, np.float32)
            self.slots = (Slot("maximum", lowest, exact=True),)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensor = values[0].tensor
        if not self.running:
            return (Value(self.layer(tensor)),), state
        maximum = keras.ops.maximum(state[0], tensor[:, 0])
        return self.pooled(maximum), (maximum,)


@rule(keras.layers.GlobalAveragePooling1D)
class RunningMean(RunningPooling):
    """The mean so far, of the timesteps that are not masked.

    The sum is kept in two float32, the second for what the first rounds away (Dekker 1971), so the mean is within one
    rounding of the exact one however long the sequence is; what differs from Keras is Keras' own rounding of a long
    float32 sum. Where all timesteps are masked, Keras divides 0 by 0; the mean of none is 0 here.

    Attributes:
        mean_of_none: that can happen.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.mean_of_none = self.running and call.flow.masked
        if self.running:
            zeros = np.zeros(self.features, np.float32)
            count = np.zeros(2, np.float32)
            self.slots = (Slot("sum", zeros, True), Slot("sum_rest", zeros, True), Slot("count", count, True))

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensor, mask = values[0]
        if not self.running:
            return (Value(self.layer(tensor)),), state
        high, low, count = state
        total, rest = _add(high, low, tensor[:, 0])
        ones, words = count[:, :1] + 1.0, count[:, 1:]
        full = ones >= WORD
        counted = keras.ops.concatenate(
            [keras.ops.where(full, ones - WORD, ones), keras.ops.where(full, words + 1.0, words)], axis=1
        )
        if mask is not None:
            total, rest = keras.ops.where(mask, total, high), keras.ops.where(mask, rest, low)
            counted = keras.ops.where(mask, counted, count)
        timesteps = counted[:, 1:] * WORD + counted[:, :1]  # (batch, 1)
        mean = (total + rest) / keras.ops.maximum(timesteps, 1.0)
        return self.pooled(mean), (total, rest, counted)


def _add(high: Tensor, low: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """`high + low + value` as two numbers again, of which the second is what the first cannot hold."""
    rough = high + value
    back = rough - high
    lost = (high - (rough - back)) + (value - back) + low
    total = rough + lost
    return total, lost - (total - rough)
