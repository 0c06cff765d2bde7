"""Layers that remember: each through its cell, with its state in slots."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

from worker.model.layers.rule import Call, Flow, Rule, Slot, State, Tensor, Value, Values, refuse, require_time, rule

# Cells that may be stepped. Of Keras' own, and of StackedRNNCells of them, the output is the first state.
CELLS: set[type] = {
    keras.layers.LSTMCell,
    keras.layers.GRUCell,
    keras.layers.SimpleRNNCell,
    keras.layers.StackedRNNCells,
}
_CONVOLUTIONAL = (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)
_OF_KERAS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)
_NAMES = {1: ("hidden_state",), 2: ("hidden_state", "cell_state")}


@rule(keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN, keras.layers.RNN, *_CONVOLUTIONAL)
class Recurrent(Rule):
    """A recurrent layer through its cell, with Keras' rules for masks.

    At a masked timestep the state stays as it was and the output is the previous one, or zeros with
    `zero_output_for_mask`. The output of Keras' cells is a part of their state already. Of other cells the previous
    output is kept, too, where there is a mask; before the first unmasked timestep it is zeros.
    """

    def __init__(self, call: Call) -> None:
        require_time(call)
        layer = call.layer
        if layer.go_backwards:
            raise refuse(layer, "go_backwards reads the sequence from its end", "Train it with go_backwards=False")
        if layer.stateful:
            raise refuse(
                layer,
                "stateful=True keeps one state per batch row inside the model",
                "Build it with stateful=False and the same weights: cellstream keeps the state of every stream",
            )
        super().__init__(call)
        self.cell = layer.cell
        if type(layer) is keras.layers.RNN:
            _require_known(layer, self.cell)
        self._training = {"training": False} if "training" in inspect.signature(self.cell.call).parameters else {}
        self._structure = _initial(layer)
        self.slots = _slots(layer, self.cell, self._structure)
        self._output = _place_of_output(layer, self.cell, len(self.slots))
        if self._output is None and call.flow.masked and not layer.zero_output_for_mask:
            shape = call.shapes[0][2 if layer.return_sequences else 1 :]
            self._output = len(self.slots)
            self.slots += (Slot("previous_output", np.zeros(shape, np.float32)),)  # type: ignore[arg-type]
        first, *states = call.shapes
        masked = call.flow.masked and layer.return_sequences
        self.outputs = (Flow(first, layer.return_sequences, masked), *(Flow(shape, False) for shape in states))

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        (value,) = values
        kept = len(keras.tree.flatten(self._structure))
        states = keras.tree.pack_sequence_as(self._structure, list(state[:kept]))
        output, after = self.cell(value.tensor[:, 0], states, **self._training)
        moved = keras.tree.flatten(after)
        if value.mask is not None:
            idle = keras.ops.zeros_like(output) if self.layer.zero_output_for_mask else state[self._output or 0]
            output = _where(value.mask, output, idle)
            moved = [_where(value.mask, new, old) for new, old in zip(moved, state[:kept], strict=True)]
        first = Value(output)  # (batch, units)
        if self.layer.return_sequences:
            first = Value(output[:, None], value.mask)  # (batch, 1, units)
        extra = tuple(Value(tensor) for tensor in moved) if self.layer.return_state else ()
        if len(self.slots) > kept:
            moved = [*moved, output]
        return (first, *extra), tuple(moved)


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` where the mask `(batch, 1)` is set, whatever the rank."""
    return keras.ops.where(keras.ops.reshape(mask, (-1, *[1] * (len(new.shape) - 1))), new, old)


def _initial(layer: Any) -> Any:
    """The state before the first timestep, of one stream, nested as the cell has it."""
    return keras.tree.map_structure(np.asarray, layer.get_initial_state(batch_size=1))


def _slots(layer: Any, cell: Any, structure: Any) -> tuple[Slot, ...]:
    """One slot for every piece of the state."""
    pieces = keras.tree.flatten(structure)
    if any(piece.dtype != np.float32 for piece in pieces):
        kinds = ", ".join(str(piece.dtype) for piece in pieces)
        raise refuse(layer, f"its cell keeps a state of {kinds}", "Keep float32 states; cast them in the cell")
    if isinstance(cell, keras.layers.StackedRNNCells):
        parts = [(f"cell_{k}_", len(keras.tree.flatten(part))) for k, part in enumerate(structure)]
    else:
        parts = [("", len(pieces))]
    keras_only = isinstance(layer, _CONVOLUTIONAL) or all(isinstance(one, _OF_KERAS) for one in _cells(cell))
    names = [f"{prefix}{_NAMES[n][k] if keras_only else f'state_{k}'}" for prefix, n in parts for k in range(n)]
    return tuple(Slot(name, piece[0]) for name, piece in zip(names, pieces, strict=True))


def _place_of_output(layer: Any, cell: Any, states: int) -> int | None:
    """Which piece of the state the output is; None for a cell that is not Keras' own."""
    last = _cells(cell)[-1]
    if isinstance(layer, _CONVOLUTIONAL):
        return 0
    if type(last) in _OF_KERAS:
        return states - (2 if isinstance(last, keras.layers.LSTMCell) else 1)
    return None


def _cells(cell: Any) -> list[Any]:
    """The cell, or those that it stacks."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [inner for one in cell.cells for inner in _cells(one)]
    return [cell]


def _require_known(layer: Any, cell: Any) -> None:
    """Refuse a cell whose class nobody has vouched for."""
    for one in (cell, *_cells(cell)):
        if type(one) not in CELLS:
            raise refuse(
                layer,
                f"nothing is known of its cell {type(one).__name__}",
                "Register its class with @recurrent_cell, see docs/models.md",
            )
