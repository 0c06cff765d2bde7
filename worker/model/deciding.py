"""A decision rule as a part of the step; see `worker.decision`."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from worker.decision import DecisionRule
from worker.model.layers import Slot

PATH = "decision"


class Deciding:
    """A rule that is stepped behind the model, with the compiler's help at next to no cost.

    Attributes:
        slots: its state: timesteps of the sequence so far, as far as regions change, and whether it has fired.

    Args:
        rule: of the artifact.
    """

    def __init__(self, rule: DecisionRule) -> None:
        self._begins = np.array(rule.from_timesteps[1:], np.float32)
        self._limits = np.array(rule.limits, np.float32)
        self.slots = (Slot("timesteps", np.zeros(1, np.float32), exact=True), Slot("fired", np.zeros(1, np.float32)))

    def step(self, answer: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """Advance by one timestep.

        Args:
            answer: `(batch, outputs)` probabilities.
            state: one tensor `(batch, 1)` per slot.

        Returns:
            `(batch, 1)`: 0, or the number of the class that is decided, from 1; and the state after this timestep.
        """
        count, fired = state
        sure = tf.concat([1.0 - answer, answer], axis=1) if answer.shape[1] == 1 else answer  # (batch, classes)
        region = tf.reduce_sum(tf.cast(count >= self._begins[None], tf.int32), axis=1)  # (batch,)
        winner = tf.argmax(sure, axis=1, output_type=tf.int32)
        limit = tf.gather(tf.gather(tf.constant(self._limits), region), winner, batch_dims=1)
        fires = (tf.reduce_max(sure, axis=1) >= limit)[:, None] & (fired < 0.5)  # (batch, 1)
        decided = tf.where(fires, tf.cast(winner + 1, tf.float32)[:, None], 0.0)
        last = float(self._begins[-1]) if len(self._begins) else 0.0
        return decided, [tf.minimum(count + 1.0, last), tf.where(fires, 1.0, fired)]
