"""How each Keras layer moves on by one timestep: one rule per layer class.

A layer is shown a sequence of length one. Where Keras has `(batch, time, ...)` a step has `(batch, 1, ...)`, so that
a layer that acts on each timestep alone is simply called, and its axes mean what they mean in the model. A layer
that remembers declares state slots and computes its next state from them.

A rule is made once for every call of a layer in the model, before any sample exists. It looks at the layer's
configuration and at what flows into it, and either refuses or says what flows out:

    @rule(keras.layers.LSTM)
    class ...(Rule):
        def __init__(self, layer, flow): ...           # raises NotStreamable; sets `slots` and `outputs`
        def step(self, value, state): ...              # value, state -> values, state

Classes are looked up exactly: a subclass may have changed what `call` does, so it needs a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from worker.errors import NotStreamable

Tensor: TypeAlias = Any


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor of the model before any sample arrives.

    Attributes:
        rank: number of axes, batch and time included.
        temporal: axis 1 is time; otherwise the tensor describes the sequence so far.
        masked: a Keras mask travels with it.
    """

    rank: int
    temporal: bool
    masked: bool = False


class Value(NamedTuple):
    """A tensor of one step: `(batch, 1, ...)` when temporal, else `(batch, ...)`; mask `(batch, 1)` bool or None."""

    tensor: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Slot:
    """A piece of state: its name and, without a batch axis, its value before the first timestep."""

    name: str
    initial: NDArray[np.float32]


class Rule:
    """One call of one layer, ready to be stepped.

    Attributes:
        slots: the state that the call keeps between timesteps.
        outputs: what flows out, in Keras' order of outputs.
    """

    slots: tuple[Slot, ...] = ()
    outputs: tuple[Flow, ...]

    def __init__(self, layer: Any, flow: Flow) -> None:
        self.layer = layer

    @property
    def activation(self) -> str:
        """What shapes the output last: a Keras activation by its name, or the class of the layer."""
        if isinstance(self.layer, (keras.layers.Dense, keras.layers.Activation)):
            return str(getattr(self.layer.activation, "__name__", type(self.layer.activation).__name__))
        return type(self.layer).__name__.lower()

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep.

        Args:
            value: the layer's input at this timestep.
            state: one tensor `(batch, *slot.initial.shape)` per slot, float32.

        Returns:
            One value per entry of `outputs`, and the state after this timestep.
        """
        raise NotImplementedError


RULES: dict[type, Callable[[Any, Flow], Rule]] = {}


def rule(*classes: type) -> Callable[[Any], Any]:
    """Register a rule for layer classes."""

    def register(made: Any) -> Any:
        RULES.update(dict.fromkeys(classes, made))
        return made

    return register


def refuse(layer: Any, reason: str, remedy: str) -> NotStreamable:
    """The error that names a layer, why it cannot be stepped, and what to do instead."""
    return NotStreamable(f"layer '{layer.name}' ({type(layer).__name__}) cannot be streamed: {reason}. {remedy}.")


@rule(keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
class Recurrent(Rule):
    """A recurrent layer through its cell, with Keras' rules for masks.

    At a masked timestep the state stays as it was and the output is the previous one, or zeros with
    `zero_output_for_mask`. The output of these cells is their hidden state, so the previous output is in the state
    already; before the first unmasked timestep both are zeros, as in Keras.
    """

    def __init__(self, layer: Any, flow: Flow) -> None:
        _require_time(layer, flow)
        if layer.go_backwards:
            raise refuse(layer, "go_backwards reads the sequence from its end", "Train it with go_backwards=False")
        if layer.stateful:
            raise refuse(
                layer,
                "stateful=True keeps one state per batch row inside the model",
                "Build it with stateful=False and the same weights: cellstream keeps the state of every stream",
            )
        super().__init__(layer, flow)
        names = ("hidden_state", "cell_state") if isinstance(layer, keras.layers.LSTM) else ("hidden_state",)
        self.slots = tuple(Slot(name, np.zeros(layer.units, np.float32)) for name in names)
        sequence = replace(flow, masked=flow.masked and layer.return_sequences, temporal=layer.return_sequences)
        output = replace(sequence, rank=3 if layer.return_sequences else 2)
        states = tuple(Flow(rank=2, temporal=False) for _ in names) if layer.return_state else ()
        self.outputs = (output, *states)

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep; see `Rule.step`."""
        output, moved = self.layer.cell(value.tensor[:, 0, :], list(state), training=False)
        if value.mask is not None:
            idle = keras.ops.zeros_like(output) if self.layer.zero_output_for_mask else state[0]
            output = keras.ops.where(value.mask, output, idle)
            moved = [keras.ops.where(value.mask, new, old) for new, old in zip(moved, state, strict=True)]
        first = Value(output, None)  # (batch, units)
        if self.layer.return_sequences:
            first = Value(output[:, None, :], value.mask)  # (batch, 1, units)
        extra = tuple(Value(tensor, None) for tensor in moved) if self.layer.return_state else ()
        return (first, *extra), tuple(moved)


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
        _require_axes(layer, flow, (-1,))
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
        _require_axes(layer, flow, layer.axis)


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
        _require_axes(layer, flow, layer.axis)
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
        _require_time(layer, flow)
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
        _require_time(layer, flow)
        if flow.rank != 3:
            raise refuse(layer, f"its mask would have {flow.rank - 1} axes", "Mask (batch, time, features)")
        super().__init__(layer, flow)
        self.outputs = (replace(flow, masked=True),)

    def step(self, value: Value, state: tuple[Tensor, ...]) -> tuple[tuple[Value, ...], tuple[Tensor, ...]]:
        """Advance by one timestep; see `Rule.step`."""
        mask = self.layer.compute_mask(value.tensor)  # (batch, 1)
        return (Value(keras.ops.where(mask[..., None], value.tensor, 0.0), mask),), state


def make_rule(layer: Any, flow: Flow) -> Rule:
    """The rule for one call of a layer.

    Raises:
        NotStreamable: no rule knows the layer's class, or its configuration needs more than the samples so far.
    """
    if not isinstance(layer, keras.layers.Layer):
        raise refuse(layer, "it is a bare operation, not a layer", "Use the Keras layer that does the same")
    policy = layer.dtype_policy
    if (policy.compute_dtype, policy.variable_dtype) != ("float32", "float32"):
        raise refuse(
            layer, f"it computes in {policy.name}", "Build the model with the float32 policy, and load the weights"
        )
    if type(layer) in RULES:
        return RULES[type(layer)](layer, flow)
    from worker.refused_layers import refusal

    raise refuse(layer, *refusal(layer, flow))


def _require_time(layer: Any, flow: Flow) -> None:
    """Refuse a layer whose input has lost its time axis."""
    if not flow.temporal:
        raise refuse(
            layer,
            "it runs over time, but the layer before it returns only its last output",
            "Give every recurrent layer before it return_sequences=True",
        )


def _require_axes(layer: Any, flow: Flow, axes: Any) -> None:
    """Refuse a layer that works along the batch axis or the time axis."""
    for axis in axes if isinstance(axes, (list, tuple)) else (axes,):
        position = axis % flow.rank
        if position == 0 or (position == 1 and flow.temporal):
            name = ("batch", "time")[position]
            raise refuse(
                layer, f"it works along the {name} axis (axis {axis})", "Let it work along the features: axis=-1"
            )
