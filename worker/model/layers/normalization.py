"""Normalizations: statistics along, or kept for, axes other than time."""

from __future__ import annotations

import keras

from worker.model.layers.per_timestep import PerTimestep
from worker.model.layers.rule import Call, refuse, require_axes, rule


@rule(
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
class Normalized(PerTimestep):
    """Along features; BatchNormalization by the moving statistics that training has left in it."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        axes = self.layer.axis
        require_axes(call, () if axes is None else axes)


@rule(keras.layers.GroupNormalization)
class GroupNormalized(PerTimestep):
    """Per sequence only: its statistics go over every axis but that of the batch."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if call.flow.temporal:
            raise refuse(
                self.layer,
                "its mean and variance go over all timesteps of the sequence",
                "Wrap it: TimeDistributed(GroupNormalization(...)) normalizes each timestep alone, or use "
                "LayerNormalization",
            )
        require_axes(call, self.layer.axis)
