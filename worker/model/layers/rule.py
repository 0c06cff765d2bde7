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
from dataclasses import dataclass
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
    from worker.model.layers.refused import refusal

    raise refuse(layer, *refusal(layer))


def require_time(layer: Any, flow: Flow) -> None:
    """Refuse a layer whose input has lost its time axis."""
    if not flow.temporal:
        raise refuse(
            layer,
            "it runs over time, but the layer before it returns only its last output",
            "Give every recurrent layer before it return_sequences=True",
        )


def require_axes(layer: Any, flow: Flow, axes: Any) -> None:
    """Refuse a layer that works along the batch axis or the time axis."""
    for axis in axes if isinstance(axes, (list, tuple)) else (axes,):
        position = axis % flow.rank
        if position == 0 or (position == 1 and flow.temporal):
            name = ("batch", "time")[position]
            raise refuse(
                layer, f"it works along the {name} axis (axis {axis})", "Let it work along the features: axis=-1"
            )
