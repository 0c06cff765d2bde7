"""Layers that look at neighbouring timesteps: over a window of the past, which is kept in a slot.

The window of timestep t is the inputs t-span ... t. Before the sequence begins, the past is zeros: what
`padding="causal"` and a ZeroPadding1D put there. That is also why an average counts those zeros and a maximum sees
them: Keras does.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from worker.model.layers.per_timestep import PerTimestep, require_known_activation
from worker.model.layers.rule import Call, Rule, Slot, State, Tensor, Value, Values, refuse, rule

_REMEDY = "Put ZeroPadding1D(({span}, 0)) right before it and give it padding='valid'{or_causal}"


class Windowed(Rule):
    """A layer over the last `span + 1` inputs, at stride 1; inside a timestep, without time, it is called as it is.

    Attributes:
        span: timesteps of the past that the layer looks at.
    """

    takes_padding = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_known_activation(self.layer, getattr(self.layer, "activation", None))
        self.outputs = call.flowing(call.flow.temporal)
        self.span = self._span() if call.flow.temporal else 0
        if call.flow.temporal:
            self._require_causal(call)
        if self.span:
            shape: Any = (self.span, *call.flow.shape[2:])
            self.slots = (Slot("past_inputs", np.zeros(shape, np.float32)),)

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        tensor = values[0].tensor
        if not self.span:
            return (Value(self.layer(tensor)),), state
        window = keras.ops.concatenate([state[0], tensor], axis=1)  # (batch, span + 1, features)
        return (Value(self.of_window(window)),), (window[:, 1:],)

    def of_window(self, window: Tensor) -> Tensor:
        """The layer's output for the last timestep of a window, `(batch, 1, ...)`."""
        return self.layer(window)

    def _span(self) -> int:
        return self.layer.dilation_rate[0] * (self.layer.kernel_size[0] - 1)

    def _require_causal(self, call: Call) -> None:
        """Refuse strides over time, and windows that reach into the future or leave out the first timesteps."""
        layer, padding = self.layer, call.flow.padding
        strides = layer.strides if isinstance(layer.strides, int) else layer.strides[0]
        if layer.data_format != "channels_last":
            raise refuse(layer, "channels_first puts the features before time", "Build it with channels_last")
        if strides != 1:
            raise refuse(layer, f"strides={strides} answers only some of the timesteps", "Build it with strides=1")
        if layer.padding == "causal" and not padding:
            return
        # Padding 'same' adds nothing around a window of one timestep.
        if (layer.padding == "valid" and padding == self.span) or not (self.span or padding):
            return
        or_causal = " (or padding='causal')" if type(layer) is keras.layers.Conv1D else ""
        remedy = _REMEDY.format(span=self.span, or_causal=or_causal)
        if layer.padding == "valid":
            reason = (
                f"it looks at {self.span + 1} timesteps behind {padding} of padding, which moves its answers in time"
            )
        else:
            reason = f"padding={layer.padding!r}" + (f" behind {padding} timesteps of padding" if padding else "")
            reason += " looks at timesteps of the future" if layer.padding == "same" else " pads twice"
        raise refuse(layer, reason, remedy)


@rule(keras.layers.SeparableConv1D, keras.layers.DepthwiseConv1D)
class Convolution(Windowed):
    """A convolution without causal padding of its own."""


@rule(keras.layers.Conv1D)
class CausalConvolution(Windowed):
    """Conv1D, which may pad by itself: the window holds the zeros already, so that padding is left out."""

    def of_window(self, window: Tensor) -> Tensor:
        """See `Windowed.of_window`."""
        layer = self.layer
        if layer.padding == "valid":
            return layer(window)
        outputs = keras.ops.conv(
            window, layer.kernel, padding="valid", dilation_rate=layer.dilation_rate, data_format="channels_last"
        )
        if layer.use_bias:
            outputs = keras.ops.add(outputs, layer.bias)
        return outputs if layer.activation is None else layer.activation(outputs)


@rule(keras.layers.AveragePooling1D, keras.layers.MaxPooling1D)
class Pooling(Windowed):
    """The average or the largest of neighbouring timesteps."""

    def _span(self) -> int:
        size = self.layer.pool_size
        return (size if isinstance(size, int) else size[0]) - 1


@rule(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.SeparableConv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.UpSampling2D,
)
class InsideTimestep(PerTimestep):
    """Pictures: only where each belongs to one timestep, in TimeDistributed."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_known_activation(self.layer, getattr(self.layer, "activation", None))
        if call.flow.temporal:
            raise refuse(
                self.layer, "it looks at neighbouring timesteps", "Wrap it in TimeDistributed, one picture a timestep"
            )
