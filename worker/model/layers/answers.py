"""Layers that stand behind a model's answers: smoothing along the past, and calibration by elapsed time.

`cellstream train --folds` puts them there. They are layers, so that what is fitted travels inside the model and is
proven with it. Keras alone opens such a model file once this module is imported.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from worker.model.layers.custom import recurrent_cell
from worker.model.layers.rule import Call, Rule, Slot, State, Value, Values, require_time, rule

PACKAGE = "cellstream"
# Probabilities are held this far from 0 and 1 before their logarithm: float32 knows 1 - 6e-8 as the last one below 1.
NEAREST = 1e-6


@recurrent_cell
@keras.saving.register_keras_serializable(PACKAGE)
class SmoothingCell(keras.layers.Layer):
    """An exponential mean of the answers so far, for `keras.layers.RNN`; the first timestep's is the answer itself.

    Args:
        width: columns of the answers.
        share: of the past in the mean, 0 <= share < 1; 0 leaves the answers as they are.
    """

    def __init__(self, width: int, share: float, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.share = width, share
        self.state_size, self.output_size = [width, 1], width

    def call(self, inputs: Any, states: Any) -> Any:
        """Answers `(batch, width)` and their mean so far; the states are a weighted sum and its weights."""
        total, weight = states
        total = self.share * total + (1.0 - self.share) * inputs
        weight = self.share * weight + (1.0 - self.share)
        return total / weight, [total, weight]

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """Nothing so far."""
        return [keras.ops.zeros((batch_size, size)) for size in self.state_size]

    def get_config(self) -> dict[str, Any]:
        """As Keras stores it."""
        return {**super().get_config(), "width": self.width, "share": self.share}


@keras.saving.register_keras_serializable(PACKAGE)
class Calibration(keras.layers.Layer):
    """Probabilities made more or less sure of themselves, by a temperature for each timestep.

    The logits, recovered from the probabilities, are divided by the temperature of their timestep. The order of the
    classes does not change. Behind the last temperature, the last one holds.

    Args:
        timesteps: how many have a temperature of their own, at least 1.
    """

    def __init__(self, timesteps: int, **options: Any) -> None:
        super().__init__(**options)
        self.timesteps = timesteps
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """One temperature a timestep, 1 until they are set."""
        self.temperatures = self.add_weight(
            shape=(self.timesteps,), initializer="ones", trainable=False, name="temperatures"
        )

    def call(self, inputs: Any) -> Any:
        """Answers `(batch, time, classes)` -> the same, calibrated."""
        return self.calibrated(inputs, keras.ops.arange(keras.ops.shape(inputs)[1]))

    def calibrated(self, inputs: Any, timesteps: Any) -> Any:
        """Answers `(batch, time, classes)` at `timesteps`, `(time,)` or `(batch, 1)`, whole numbers from 0 on."""
        known = keras.ops.clip(keras.ops.cast(timesteps, "int32"), 0, self.timesteps - 1)
        temperatures = keras.ops.take(self.temperatures, known)[..., None]
        sure = keras.ops.clip(inputs, NEAREST, 1.0 - NEAREST)
        logits = keras.ops.log(sure)
        if inputs.shape[-1] == 1:
            return keras.ops.sigmoid((logits - keras.ops.log(1.0 - sure)) / temperatures)
        return keras.ops.softmax(logits / temperatures, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """As Keras stores it."""
        return {**super().get_config(), "timesteps": self.timesteps}


@rule(Calibration)
class CountedCalibration(Rule):
    """Keeps the number of timesteps so far, as far as there are temperatures."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        require_time(call)
        self.outputs = call.flowing(True, call.flow.masked)
        self.slots = (Slot("timesteps", np.zeros(1, np.float32), exact=True),)

    @property
    def activation(self) -> str:
        """Its answers are probabilities where those before it are."""
        return "sigmoid" if self.outputs[0].shape[-1] == 1 else "softmax"

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        (value,), (count,) = values, state
        after = keras.ops.minimum(count + 1.0, float(self.layer.timesteps))
        return (Value(self.layer.calibrated(value.tensor, count), value.mask),), (after,)
