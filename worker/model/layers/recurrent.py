"""Layers that remember: each through its cell, with its state in slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from worker.model.layers.rule import Flow, Rule, Slot, Tensor, Value, refuse, require_time, rule


@rule(keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
class Recurrent(Rule):
    """A recurrent layer through its cell, with Keras' rules for masks.

    At a masked timestep the state stays as it was and the output is the previous one, or zeros with
    `zero_output_for_mask`. The output of these cells is their hidden state, so the previous output is in the state
    already; before the first unmasked timestep both are zeros, as in Keras.
    """

    def __init__(self, layer: Any, flow: Flow) -> None:
        require_time(layer, flow)
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
