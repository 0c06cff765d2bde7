"""How each Keras layer moves on by one timestep: one rule per layer class.

A layer is shown a sequence of length one. Where Keras has `(batch, time, ...)` a step has `(batch, 1, ...)`, so that
a layer that acts on each timestep alone is simply called, and its axes mean what they mean in the model. A layer
that remembers declares state slots and computes its next state from them.

A rule is made once for every call of a layer in the model, before any sample exists. It looks at the layer's
configuration and at what flows into it, and either refuses or says what flows out:

    @rule(keras.layers.LSTM)
    class ...(Rule):
        def __init__(self, call): ...                  # raises NotStreamable; sets `slots` and `outputs`
        def step(self, values, state): ...             # values, state -> values, state

Classes are looked up exactly: a subclass may have changed what `call` does, so it needs a rule of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from worker.errors import NotStreamable

Tensor: TypeAlias = Any
Shape: TypeAlias = tuple[int | None, ...]


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor of the model before any sample arrives.

    Attributes:
        shape: as Keras has it, batch and time included.
        temporal: axis 1 is time; otherwise the tensor describes the sequence so far.
        masked: a Keras mask travels with it.
        padding: timesteps of zeros that a ZeroPadding1D has put before the sequence, for a window behind it.
        columns: the sample's columns that it holds as they came; None behind a layer.
    """

    shape: Shape
    temporal: bool
    masked: bool = False
    padding: int = 0
    columns: range | None = None

    @property
    def rank(self) -> int:
        """Number of axes, batch and time included."""
        return len(self.shape)


class Value(NamedTuple):
    """A tensor of one step: `(batch, 1, ...)` when temporal, else `(batch, ...)`; mask `(batch, 1)` bool or None."""

    tensor: Tensor
    mask: Tensor | None = None


Values: TypeAlias = tuple[Value, ...]
State: TypeAlias = tuple[Tensor, ...]


@dataclass(frozen=True)
class Slot:
    """A piece of state.

    Attributes:
        name: of the piece.
        initial: without a batch axis, its value before the first timestep.
        exact: it counts or sums up: rounding it once a timestep would add up.
    """

    name: str
    initial: NDArray[np.float32]
    exact: bool = False


@dataclass(frozen=True)
class Call:
    """One call of a layer in the model.

    Attributes:
        layer: the Keras layer, or a bare operation of `keras.ops`.
        flows: what flows in, in the order in which the layer takes it.
        shapes: of what flows out, as Keras has them.
        names: for each of `flows`, the parameter of the layer's `call` that it is given to.
        options: the other arguments of the call.
        arguments: all arguments of a bare operation, `(args, kwargs)`, with Keras' symbolic tensors in them.
    """

    layer: Any
    flows: tuple[Flow, ...]
    shapes: tuple[Shape, ...]
    names: tuple[str, ...] = ("inputs",)
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    @property
    def flow(self) -> Flow:
        """What flows in first; the only one for most layers."""
        return self.flows[0]

    def flowing(self, temporal: bool, masked: bool = False, padding: int = 0) -> tuple[Flow, ...]:
        """What flows out, all of one kind."""
        return tuple(Flow(shape, temporal, masked, padding) for shape in self.shapes)


class Rule(ABC):
    """One call of one layer, ready to be stepped.

    Attributes:
        several: the layer takes more than one tensor.
        takes: names of arguments that the rule knows; a call with another one is refused.
        takes_padding: the rule knows what to do behind a ZeroPadding1D.
        slots: the state that the call keeps between timesteps.
        outputs: what flows out, in Keras' order of outputs.
    """

    several: ClassVar[bool] = False
    takes: ClassVar[frozenset[str]] = frozenset()
    takes_padding: ClassVar[bool] = False
    slots: tuple[Slot, ...] = ()
    outputs: tuple[Flow, ...]

    def __init__(self, call: Call) -> None:
        self.layer = call.layer

    @property
    def activation(self) -> str:
        """What shapes the output last: a Keras activation by its name, or the class of the layer."""
        if isinstance(self.layer, (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Activation)):
            return str(getattr(self.layer.activation, "__name__", type(self.layer.activation).__name__))
        return type(self.layer).__name__.lower()

    @abstractmethod
    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep.

        Args:
            values: the layer's inputs at this timestep, one for each of the call's flows.
            state: one tensor `(batch, *slot.initial.shape)` per slot, float32.

        Returns:
            One value per entry of `outputs`, and the state after this timestep.
        """


RULES: dict[type, Callable[[Call], Rule]] = {}


def rule(*classes: type) -> Callable[[Any], Any]:
    """Register a rule for layer classes."""

    def register(made: Any) -> Any:
        RULES.update(dict.fromkeys(classes, made))
        return made

    return register


def refuse(layer: Any, reason: str, remedy: str) -> NotStreamable:
    """The error that names a layer, why it cannot be stepped, and what to do instead."""
    return NotStreamable(f"layer '{layer.name}' ({type(layer).__name__}) cannot be streamed: {reason}. {remedy}.")


def make_rule(call: Call) -> Rule:
    """The rule for one call of a layer.

    Raises:
        NotStreamable: no rule knows the layer's class, or its configuration needs more than the samples so far.
    """
    layer = call.layer
    if isinstance(layer, keras.layers.Layer):
        policy = layer.dtype_policy
        if (policy.compute_dtype, policy.variable_dtype) != ("float32", "float32"):
            raise refuse(
                layer, f"it computes in {policy.name}", "Build the model with the float32 policy, and load the weights"
            )
    made = RULES.get(type(layer))
    if made is None:
        from worker.model.layers.refused import refusal

        raise refuse(layer, *refusal(layer))
    _require_arguments(call, made)
    if not getattr(made, "takes_padding", False) and any(flow.padding for flow in call.flows):
        raise refuse(
            layer,
            "it stands between a ZeroPadding1D and the layer that the padding is for",
            "Put the ZeroPadding1D right before the convolution or pooling that it makes causal",
        )
    return made(call)


def _require_arguments(call: Call, made: Any) -> None:
    """Refuse arguments that the rule does not know: they change what the layer does."""
    unknown = sorted(
        name for name, given in call.options.items() if name not in getattr(made, "takes", ()) and _says(given)
    )
    if unknown:
        raise refuse(call.layer, f"it is called with {', '.join(unknown)}", "Call it with its tensor and nothing else")
    if len(call.flows) != 1 and not getattr(made, "several", False):
        extra = sorted({name for name in call.names if name != call.names[0]})
        raise refuse(
            call.layer,
            f"it is called with {len(call.flows)} tensors" + (f" ({', '.join(extra)})" if extra else ""),
            "Call it with one tensor and nothing else",
        )


def _says(given: Any) -> bool:
    """Whether an argument is more than a default."""
    return given is not None and given is not False


def require_time(call: Call) -> None:
    """Refuse a layer whose input has lost its time axis."""
    if not call.flow.temporal:
        raise refuse(
            call.layer,
            "it runs over time, but the layer before it returns only its last output",
            "Give every recurrent layer before it return_sequences=True",
        )


def require_axes(call: Call, axes: int | Iterable[int], flow: Flow | None = None) -> None:
    """Refuse a layer that works along the batch axis or the time axis."""
    flow = call.flow if flow is None else flow
    for axis in axes if isinstance(axes, Iterable) else (axes,):
        position = axis % flow.rank
        if position == 0 or (position == 1 and flow.temporal):
            name = ("batch", "time")[position]
            raise refuse(
                call.layer,
                f"it works along the {name} axis (axis {axis})",
                "Let it work along the features: axis=-1, behind Masking or a layer that gives (batch, time, features)"
                if flow.rank == 2
                else "Let it work along the features: axis=-1",
            )
