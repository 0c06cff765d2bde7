"""How Keras layers move on by one timestep: the mechanism in `rule`, the rules beside it.

Importing the package registers all rules.
"""

from worker.model.layers import per_timestep, recurrent
from worker.model.layers.rule import RULES, Flow, Rule, Slot, Tensor, Value, make_rule, refuse

__all__ = ["RULES", "Flow", "Rule", "Slot", "Tensor", "Value", "make_rule", "per_timestep", "recurrent", "refuse"]
