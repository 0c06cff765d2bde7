"""One timestep of a model for a block of streams, as a function to trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from worker.artifact import StateSlot
from worker.decision import DecisionRule
from worker.errors import NotStreamable
from worker.model.deciding import PATH, Deciding
from worker.model.graph import StepGraph
from worker.model.layers import Slot


class Timestep:
    """The step of a Keras model, with the decisions of a rule behind it, over states that are flat.

    Attributes:
        graph: of the layers' steps.
        outputs: width of one answer, with the column of decisions where there is a rule.
        layout: where each layer's state is in the flat state of a stream.
        state_size: elements per stream.
        state_dtype: of states in between two timesteps.
        initial_state: `(state_size,)` of that type, the state before the first sample.

    Args:
        graph: see above.
        state_dtype: see above, by its name.
        rule: for decisions, or None.

    Raises:
        NotStreamable: a layer's state cannot be kept in that type.
    """

    def __init__(self, graph: StepGraph, state_dtype: str, rule: DecisionRule | None) -> None:
        self.graph = graph
        self._deciding = None if rule is None else Deciding(rule)
        self.outputs = graph.outputs + (self._deciding is not None)
        slots = list(graph.slots)
        if self._deciding is not None:
            slots += [(PATH, slot) for slot in self._deciding.slots]
        self.layout = _layout(slots)
        self.state_size = sum(slot.size for slot in self.layout)
        self.state_dtype = tf.as_dtype(state_dtype)
        pieces = [slot.initial.reshape(-1) for _, slot in slots]
        self.initial_state = np.concatenate([*pieces, np.zeros(0)]).astype(self.state_dtype.as_numpy_dtype)
        if state_dtype != "float32":
            _require_roundable(slots, state_dtype)

    def __call__(self, samples: Any, mask: Any, reset: Any, states: Any) -> tuple[Any, Any]:
        """`(B, features)`, `(B,)`, `(B,)`, `(B, S)` -> `(B, outputs)`, `(B, S)`; see `StepModel.run_block`."""
        before = tf.where(reset[:, None], tf.constant(self.initial_state), states)
        given = tf.cast(before, tf.float32)
        pieces = [
            tf.reshape(given[:, slot.offset : slot.offset + slot.size], (-1, *slot.shape)) for slot in self.layout
        ]
        own = len(self.graph.slots)
        answer, moved = self.graph.step(samples, pieces[:own])
        if self._deciding is not None:
            decided, remembered = self._deciding.step(answer, pieces[own:])
            answer, moved = tf.concat([answer, decided], axis=1), [*moved, *remembered]
        flat = [tf.reshape(piece, (-1, slot.size)) for piece, slot in zip(moved, self.layout, strict=True)]
        # The loop around this carries states in their type: they are rounded after every timestep, however blocks cut.
        after = tf.cast(tf.concat(flat, axis=1), self.state_dtype) if flat else before
        return answer, tf.where(mask[:, None], after, before)


def _require_roundable(slots: Sequence[tuple[str, Slot]], state_dtype: str) -> None:
    """Refuse to round what counts or sums up."""
    exact = sorted({path for path, slot in slots if slot.exact})
    if exact:
        raise NotStreamable(
            f"layer '{exact[0]}': it counts or sums up over the whole sequence, and in {state_dtype} that would go "
            "wrong after some hundred timesteps. Keep its model's states in float32."
        )


def _layout(slots: Sequence[tuple[str, Slot]]) -> tuple[StateSlot, ...]:
    """Place slots one behind the other."""
    layout: list[StateSlot] = []
    offset = 0
    for path, slot in slots:
        layout.append(StateSlot(path, slot.name, slot.initial.shape, offset))
        offset += slot.initial.size
    return tuple(layout)
