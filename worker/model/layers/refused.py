"""Why a layer without a rule cannot be streamed, and what to use instead."""

from __future__ import annotations

from typing import Any

import keras

from worker.model.layers.rule import RULES

_FORWARD = "Train a forward layer in its place"
_ONE_EACH = "Let each sample give one timestep"
_BOUNDED = (
    "Use MultiHeadAttention or GroupQueryAttention with sliding_window=n, called with use_causal_mask=True; or a "
    "recurrent layer (LSTM, GRU)"
)

# Names, not classes: a layer that a Keras version lacks then needs no care.
_BY_NAME = {
    "Bidirectional": ("its backward half needs the end of the sequence first", _FORWARD),
    "Lambda": ("it runs code that is stored in the model file", "Use a Keras layer that does the same"),
    "RepeatVector": ("it makes timesteps out of a whole sequence", _ONE_EACH),
}

_BY_PART = {
    "Attention": ("every timestep looks at the whole sequence", _BOUNDED),
    "Global": ("it pools over all axes but the last", "Wrap it in TimeDistributed"),
    "Pooling": ("it pools over neighbouring timesteps", "Use AveragePooling1D or MaxPooling1D, behind ZeroPadding1D"),
    "Conv": ("it looks at neighbouring timesteps", "Use Conv1D with padding='causal', or a recurrent layer"),
    "Padding": ("it adds timesteps", "Use ZeroPadding1D((n, 0)) right before a window of n + 1 timesteps"),
    "Cropping": ("it removes timesteps", "Cut the sequences before training"),
    "UpSampling": ("it makes several timesteps out of one", _ONE_EACH),
}


def refusal(layer: Any) -> tuple[str, str]:
    """Reason and remedy for a layer that has no rule.

    Args:
        layer: a Keras layer, or operation, whose class is not in `RULES`.
    """
    name = type(layer).__name__
    if type(layer).__module__.split(".")[0] != "keras":
        return (
            "nothing is known of this class",
            "Register it with @per_timestep_layer if it treats every timestep alone, or with a rule of its own, see "
            f"docs/models.md; or build it from layers that stream: {_known()}",
        )
    if not isinstance(layer, keras.layers.Layer):
        return "no rule says how this bare operation acts on one timestep", "Use the Keras layer that does the same"
    if name in _BY_NAME:
        return _BY_NAME[name]
    for part, words in _BY_PART.items():
        if part in name:
            return words
    return "no rule says how it acts on one timestep", f"Build it from layers that stream: {_known()}"


def _known() -> str:
    return ", ".join(sorted(known.__name__ for known in RULES if issubclass(known, keras.layers.Layer)))
