"""How Keras layers move on by one timestep: the mechanism in `rule`, the rules beside it, your own by `custom`.

Importing the package registers all rules.
"""

from worker.model.layers import (
    answers,
    attention,
    convolution,
    crf,
    merging,
    normalization,
    operations,
    per_timestep,
    pooling,
    recurrent,
    reshaping,
    wrapping,
)
from worker.model.layers.custom import is_registered, load_registered, per_timestep_layer, recurrent_cell
from worker.model.layers.rule import RULES, Call, Flow, Rule, Slot, Tensor, Value, make_rule, refuse, rule

__all__ = [
    "RULES",
    "Call",
    "Flow",
    "Rule",
    "Slot",
    "Tensor",
    "Value",
    "answers",
    "attention",
    "convolution",
    "crf",
    "is_registered",
    "load_registered",
    "make_rule",
    "merging",
    "normalization",
    "operations",
    "per_timestep",
    "per_timestep_layer",
    "pooling",
    "recurrent",
    "recurrent_cell",
    "refuse",
    "reshaping",
    "rule",
    "wrapping",
]
