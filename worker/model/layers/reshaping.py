"""Layers that move values: they have to leave time where it is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras

from worker.model.layers.per_timestep import PerTimestep
from worker.model.layers.rule import Call, Rule, State, Value, Values, refuse, require_time, rule


@rule(keras.layers.Flatten)
class Flattened(PerTimestep):
    """Per sequence only: behind a layer that returns its last output, or inside TimeDistributed."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if call.flow.temporal:
            raise refuse(
                self.layer,
                "it joins all timesteps, so its width is the length of the sequence",
                "Leave it out behind a recurrent layer with return_sequences=False, or wrap it in TimeDistributed",
            )


@rule(keras.layers.Reshape)
class Reshaped(Rule):
    """Another shape of each timestep, or of what describes the sequence so far."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        before: Any = call.flow.shape
        after: Any = call.shapes[0]
        if call.flow.temporal and not (
            before[1] == after[1] and None not in before[2:] and math.prod(before[2:]) == math.prod(after[2:])
        ):
            raise refuse(
                self.layer,
                f"it moves values between timesteps: {before} becomes {after}",
                "Keep time first, and as many values for each timestep: Reshape((-1, ...))",
            )
        self.outputs = call.flowing(call.flow.temporal)
        self._shape = (1, *after[2:]) if call.flow.temporal else after[1:]

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        return (Value(keras.ops.reshape(values[0].tensor, (-1, *self._shape))),), state


@rule(keras.layers.Permute)
class Permuted(PerTimestep):
    """Another order of the axes behind time."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if call.flow.temporal and self.layer.dims[0] != 1:
            raise refuse(
                self.layer,
                f"dims={self.layer.dims} puts another axis in the place of time",
                "Begin dims with 1, which is time",
            )


@rule(keras.layers.ZeroPadding1D)
class Padded(Rule):
    """Zeros before the sequence, for the window of the layer behind it; that layer's state begins with them."""

    takes_padding = True

    def __init__(self, call: Call) -> None:
        require_time(call)
        super().__init__(call)
        left, right = self.layer.padding
        if right or self.layer.data_format != "channels_last":
            raise refuse(
                self.layer,
                f"padding={self.layer.padding} with {self.layer.data_format} adds timesteps after the sequence",
                "Pad before the sequence only: ZeroPadding1D((n, 0)), channels_last",
            )
        self.outputs = (replace(call.flowing(True)[0], padding=call.flow.padding + left),)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        return (Value(values[0].tensor),), state
