"""Why a layer without a rule cannot be streamed, and what to use instead."""

from __future__ import annotations

from typing import Any

from worker.model.layers.rule import RULES

_LAST = "Use a recurrent layer with return_sequences=False, whose last output is the answer so far"
_FORWARD = "Train a forward layer in its place"

# Names, not classes: a layer that a Keras version lacks then needs no care.
_BY_NAME = {
    "Bidirectional": ("its backward half needs the end of the sequence first", _FORWARD),
    "Lambda": ("it runs code that is stored in the model file", "Use a Keras layer that does the same"),
    "RepeatVector": ("it makes timesteps out of a whole sequence", "Let each sample give one timestep"),
    "Reshape": ("it may move values between timesteps", "Shape the features before they enter the model"),
    "Permute": ("it may exchange time with another axis", "Shape the features before they enter the model"),
    "UpSampling1D": ("it makes several timesteps out of one", "Let each sample give one timestep"),
}

_BY_PART = {
    "Attention": ("every timestep looks at the whole sequence", "Use a recurrent layer (LSTM, GRU) in its place"),
    "Global": ("it pools over the whole sequence", _LAST),
    "Pooling": ("it pools over neighbouring timesteps", "Use a recurrent layer (LSTM, GRU) in its place"),
    "ConvLSTM": ("no rule steps its convolution", "Use LSTM on the flattened features"),
    "Conv": ("it looks at neighbouring timesteps", "Use a recurrent layer (LSTM, GRU) in its place"),
    "Padding": ("it adds timesteps", "Train without padding, or with Masking for sequences of several lengths"),
    "Cropping": ("it removes timesteps", "Cut the sequences before training"),
}


def refusal(layer: Any) -> tuple[str, str]:
    """Reason and remedy for a layer that has no rule.

    Args:
        layer: a Keras layer whose class is not in `RULES`.
    """
    name = type(layer).__name__
    if type(layer).__module__.split(".")[0] != "keras":
        return "cellstream does not know what this class does", f"Build it from layers that stream: {_known()}"
    if name == "RNN":
        cell = type(layer.cell).__name__
        return f"no rule steps the cell {cell}", "Use LSTM, GRU or SimpleRNN, one layer for each cell"
    if name in _BY_NAME:
        return _BY_NAME[name]
    for part, words in _BY_PART.items():
        if part in name:
            return words
    return "no rule says how it acts on one timestep", f"Build it from layers that stream: {_known()}"


def _known() -> str:
    return ", ".join(sorted(known.__name__ for known in RULES))
