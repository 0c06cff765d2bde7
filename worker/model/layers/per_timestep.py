"""Layers that treat every timestep alone: called as they are, once it is clear that they do not look along time."""

from __future__ import annotations

from typing import Any

import keras

from worker.model.layers.rule import Call, Flow, Rule, State, Value, Values, refuse, require_axes, rule


class PerTimestep(Rule):
    """A layer that treats every timestep alone: it is called as it is."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        # Keras drops the mask behind a layer that does not support masking.
        self.outputs = call.flowing(call.flow.temporal, call.flow.masked and self.layer.supports_masking)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        (value,) = values
        return (Value(self.layer(value.tensor), value.mask if self.outputs[0].masked else None),), state


@rule(
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
class Unchanged(PerTimestep):
    """The identity outside training: nothing to check, and what was known of the input holds for the output."""

    takes_padding = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        flow = call.flow
        self.outputs = (
            Flow(flow.shape, flow.temporal, flow.masked and self.layer.supports_masking, flow.padding, flow.columns),
        )


@rule(keras.layers.ELU, keras.layers.LeakyReLU, keras.layers.ReLU, keras.layers.Rescaling)
class Pointwise(PerTimestep):
    """Element by element: nothing to check."""


def require_known_activation(layer: Any, activation: Any) -> None:
    """Refuse an activation that is not Keras' own: those act along the last axis or on elements."""
    module = getattr(activation, "__module__", None) or type(activation).__module__
    if activation is not None and module.split(".")[0] != "keras":
        raise refuse(
            layer,
            f"nothing is known of its activation {getattr(activation, '__name__', activation)!r}",
            "Use an activation of Keras by its name",
        )


@rule(keras.layers.Dense, keras.layers.Activation)
class Activated(PerTimestep):
    """A product along the last axis, and an activation."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_axes(call, -1)
        require_known_activation(self.layer, self.layer.activation)


@rule(keras.layers.EinsumDense)
class EinsumProduct(PerTimestep):
    """A product over labelled axes: the one of time has to come through as it is."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_known_activation(self.layer, self.layer.activation)
        if not call.flow.temporal:
            return
        samples, kernel, output = _labels(self.layer.equation, call.flow.rank, len(call.shapes[0]))
        time = samples[1]
        if output[1] != time or time in kernel or time in (self.layer.bias_axes or ""):
            raise refuse(
                self.layer,
                f"its equation {self.layer.equation!r} (bias_axes={self.layer.bias_axes!r}) does not leave axis 1, "
                "which is time, alone",
                "Keep the label of axis 1 at its place in the output, and out of the kernel and the bias",
            )


def _labels(equation: str, rank: int, rank_out: int) -> tuple[str, str, str]:
    """The labels of input, kernel and output, with capitals in the place of an ellipsis."""
    inputs, output = equation.replace(" ", "").split("->")
    samples, kernel = inputs.split(",")
    hidden = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    covered = hidden[: rank - len(samples.replace("...", ""))] if "..." in samples else ""
    kept = hidden[: rank_out - len(output.replace("...", ""))] if "..." in output else ""
    return samples.replace("...", covered), kernel.replace("...", ""), output.replace("...", kept)


@rule(keras.layers.PReLU)
class SharedSlopes(PerTimestep):
    """A slope per feature, but not per timestep."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if call.flow.temporal and 1 not in (self.layer.shared_axes or ()):
            raise refuse(self.layer, "it has a slope of its own for every timestep", "Build it with shared_axes=[1]")


@rule(keras.layers.Softmax)
class SoftmaxLayer(PerTimestep):
    """Along axes other than time; this layer, unlike the activation, applies a mask to its input."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_axes(call, self.layer.axis)
        if call.flow.masked:
            raise refuse(
                self.layer,
                "Keras applies the mask of timesteps to its classes",
                "Use Activation('softmax') or Dense(..., activation='softmax'), which leave the mask alone",
            )


@rule(keras.layers.Embedding)
class Looked(PerTimestep):
    """A row of a table for every number, which is cut to an integer; `mask_zero` masks the timesteps with 0.

    Attributes:
        vocabulary: columns of the sample, and how many rows the table has for them; None behind another layer.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        flow, masking = call.flow, self.layer.mask_zero
        if masking and not (flow.temporal and flow.rank == 2):
            raise refuse(
                self.layer, f"its mask would have {flow.rank} axes", "Give it an input of its own: keras.Input((None,))"
            )
        self.outputs = call.flowing(flow.temporal, masking)
        self.vocabulary = None if flow.columns is None else (flow.columns, int(self.layer.input_dim))

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        (value,) = values
        return (Value(self.layer(value.tensor), self.layer.compute_mask(value.tensor)),), state
