"""Named scenarios: a deployment, something that is done to it, and what is expected; each from its own seed.

`SCENARIOS` has them all: every row of the fault table, and every fault that the issue of the chaos suite names.
"""

from tests.chaos.scenarios import crashes, network, operators, outages, rebalances, store, streams, upgrades, zombies
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.registry import SCENARIOS, Scenario, Skipped

__all__ = [
    "SCENARIOS",
    "Context",
    "Scenario",
    "Skipped",
    "crashes",
    "network",
    "operators",
    "outages",
    "rebalances",
    "store",
    "streams",
    "upgrades",
    "zombies",
]
