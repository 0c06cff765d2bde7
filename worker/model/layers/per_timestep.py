"""Layers that treat every timestep alone: called as they are, once it is clear that they do not look along time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from worker.model.layers.rule import Flow, Rule, Tensor, Value, make_rule, refuse, require_axes, require_time, rule


class PerTimestep(Rule):
    """A layer that treats every timestep alone: it is called as it is."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        # Keras drops the mask behind a layer that does not support masking.
        self.outputs = (replace(flow, masked=flow.masked and layer.supports_masking),)

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep; see `Rule.step`."""
        return (Value(self.layer(value.tensor), value.mask if self.outputs[0].masked else None),), state


@rule(
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    keras.layers.SpatialDropout1D,
)
class Pointwise(PerTimestep):
    """Element by element, or the identity outside training: nothing to check."""


@rule(keras.layers.Dense, keras.layers.Activation)
class Activated(PerTimestep):
    """A product along the last axis, and an activation of Keras' own: these act along the last axis or on elements."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        require_axes(layer, flow, (-1,))
        module = getattr(layer.activation, "__module__", None) or type(layer.activation).__module__
        if module.split(".")[0] != "keras":
            raise refuse(
                layer,
                f"nothing is known of its activation {getattr(layer.activation, '__name__', layer.activation)!r}",
                "Use an activation of Keras by its name",
            )


@rule(keras.layers.PReLU)
class SharedSlopes(PerTimestep):
    """A slope per feature, but not per timestep."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        if flow.temporal and 1 not in (layer.shared_axes or ()):
            raise refuse(layer, "it has a slope of its own for every timestep", "Build it with shared_axes=[1]")


@rule(keras.layers.LayerNormalization, keras.layers.Normalization)
class Normalized(PerTimestep):
    """Statistics along, or kept for, axes other than time."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        require_axes(layer, flow, layer.axis)


@rule(keras.layers.Flatten)
class Flattened(PerTimestep):
    """Per sequence only: behind a layer that returns its last output, or inside TimeDistributed."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        if flow.temporal:
            raise refuse(
                layer,
                "it joins all timesteps, so its width is the length of the sequence",
                "Leave it out behind a recurrent layer with return_sequences=False, or wrap it in TimeDistributed",
            )
        self.outputs = (replace(self.outputs[0], rank=2),)


@rule(keras.layers.Softmax)
class SoftmaxLayer(PerTimestep):
    """Along axes other than time; this layer, unlike the activation, applies a mask to its input."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        super().__init__(layer, flow)
        require_axes(layer, flow, layer.axis)
        if flow.masked:
            raise refuse(
                layer,
                "Keras applies the mask of timesteps to its classes",
                "Use Activation('softmax') or Dense(..., activation='softmax'), which leave the mask alone",
            )


@rule(keras.layers.TimeDistributed)
class Distributed(Rule):
    """The wrapped layer on every timestep: it sees `(batch, ...)` without time."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        require_time(layer, flow)
        inner = make_rule(layer.layer, Flow(rank=flow.rank - 1, temporal=False, masked=flow.masked))
        if inner.slots or any(output.temporal for output in inner.outputs):
            raise refuse(
                layer, f"the wrapped {type(layer.layer).__name__} keeps state", "Use the layer without TimeDistributed"
            )
        super().__init__(layer, flow)
        self.inner = inner
        self.outputs = (replace(flow, rank=inner.outputs[0].rank + 1),)

    @property
    def activation(self) -> str:
        """That of the wrapped layer."""
        return self.inner.activation

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep; see `Rule.step`."""
        ((inner, _),), _ = self.inner.step(Value(value.tensor[:, 0], None), ())
        return (Value(inner[:, None], value.mask),), state


@rule(keras.layers.Masking)
class Masked(Rule):
    """Where every feature equals the mask value, the timestep is masked and its features are zeros."""

    def __init__(self, layer: Any, flow: Flow) -> None:
        require_time(layer, flow)
        if flow.rank != 3:
            raise refuse(layer, f"its mask would have {flow.rank - 1} axes", "Mask (batch, time, features)")
        super().__init__(layer, flow)
        self.outputs = (replace(flow, masked=True),)

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep; see `Rule.step`."""
        mask = self.layer.compute_mask(value.tensor)  # (batch, 1)
        return (Value(keras.ops.where(mask[..., None], value.tensor, 0.0), mask),), state
