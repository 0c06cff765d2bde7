"""ChainCRF: scores of labels for every timestep -> their probabilities given everything so far.

A linear-chain conditional random field (Lafferty et al. 2001) gives a sequence of labels y_1 .. y_T the score

    start[y_1] + sum over t of scores[t, y_t] + sum over t > 1 of transitions[y_(t-1), y_t]

and its probability is the softmax of that over all sequences of labels. What may be said after t samples is the
probability of the label of timestep t in the field of those t samples: forward filtering,

    alpha_t = softmax(scores[t] + log(alpha_(t-1) @ exp(transitions)))        alpha_1 = softmax(scores[1] + start)

which needs alpha_(t-1) and nothing else. So alpha is the answer and the state in one, and a field streams. The
likelihood to train it by and the best sequence of labels follow from the same numbers: `training.crf`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from worker.model.layers.recurrent import Recurrent
from worker.model.layers.rule import Call, Slot, Tensor, rule

# The smallest that log takes here: below it a float32 is not normal, and processors may take it for zero.
TINY = 1e-37


class FilterCell(keras.layers.Layer):
    """One timestep of the filter; its state is alpha, zeros before the first timestep.

    Args:
        classes: how many labels there are.
    """

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.classes = self.state_size = self.output_size = classes

    def build(self, input_shape: Any) -> None:
        """Make the weights: a score for each label to begin with, and for each pair of neighbours.

        Raises:
            ValueError: there is not one score for each label.
        """
        if input_shape[-1] != self.classes:
            raise ValueError(f"expected {self.classes} scores for each timestep, received {input_shape[-1]}")
        self.start = self.add_weight(shape=(self.classes,), initializer="zeros", name="start")
        self.transitions = self.add_weight(shape=(self.classes, self.classes), initializer="zeros", name="transitions")

    def call(self, inputs: Tensor, states: Any) -> tuple[Tensor, list[Tensor]]:
        """Advance: scores `(batch, classes)`, `[alpha]` -> alpha after this timestep, as answer and as state."""
        ops = keras.ops
        (alpha,) = states
        largest = ops.max(self.transitions)  # taken out, so that exp has no large results
        reached = ops.matmul(alpha, ops.exp(self.transitions - largest))  # (batch, classes)
        begun = ops.sum(alpha, axis=-1, keepdims=True) > 0.5
        before = ops.where(begun, ops.log(ops.maximum(reached, TINY)), self.start)
        after = ops.softmax(inputs + before)
        return after, [after]


@keras.saving.register_keras_serializable("cellstream")
class ChainCRF(keras.layers.RNN):
    """The filter over a sequence: scores `(batch, time, classes)` -> probabilities of the same shape.

    Put it behind a `Dense(classes)` without activation; train it with `training.crf.likelihood_loss`.

    Args:
        classes: how many labels there are.
    """

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(FilterCell(classes), return_sequences=True, **options)
        self.classes = classes

    @property
    def transitions(self) -> Any:
        """`(classes, classes)`: the score of a label, by row, followed by another, by column."""
        return self.cell.transitions

    @property
    def start(self) -> Any:
        """`(classes,)`: the score of a label at the first timestep."""
        return self.cell.start

    def get_config(self) -> Any:
        """As Keras saves it: what RNN would add follows from the number of labels."""
        return {**keras.layers.Layer.get_config(self), "classes": self.classes}

    @classmethod
    def from_config(cls, config: Any) -> Any:
        """As it was saved; RNN would look for a cell in it."""
        return cls(**config)


@rule(ChainCRF)
class ForwardFilter(Recurrent):
    """The filter, with alpha as its only state; at a masked timestep it stays, and is the answer again."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.slots = (Slot("alpha", np.zeros(self.layer.classes, np.float32)),)
        self._output = 0

    @property
    def activation(self) -> str:
        """Alpha comes out of a softmax."""
        return "softmax"
