"""The networks that `cellstream tune` chooses from.

| parameter | from |
|---|---|
| filters | none, 32, 32 and 32 |
| kernel | 3 to 9 |
| units | 16 to 64 |
| dropout | 0 to 0.5 |
| noise, scale, offset, warp | 0 to 0.2 each |
| learning_rate | 0.001 to 0.02, by its logarithm |
| l2 | 0.00001 to 0.01, by its logarithm |
| batch_size | 8, 16, 32 |
"""

from __future__ import annotations

from typing import Any

FILTERS = {"none": (), "32": (32,), "32 and 32": (32, 32)}
AUGMENTATIONS = ("noise", "scale", "offset", "warp")


def drawn(trial: Any) -> dict[str, Any]:
    """What a trial tries, as fields of a recipe; see the module."""
    trial.suggest_categorical("filters", list(FILTERS))
    trial.suggest_int("kernel", 3, 9)
    trial.suggest_int("units", 16, 64, step=16)
    trial.suggest_float("dropout", 0.0, 0.5)
    for name in AUGMENTATIONS:
        trial.suggest_float(name, 0.0, 0.2)
    trial.suggest_float("learning_rate", 1e-3, 2e-2, log=True)
    trial.suggest_float("l2", 1e-5, 1e-2, log=True)
    trial.suggest_categorical("batch_size", [8, 16, 32])
    network = network_of(trial.params)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in network.items()}


def network_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a trial as the section `network` of a recipe has them."""
    rounded = {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in parameters.items()}
    if rounded:
        rounded |= {"filters": list(FILTERS[parameters["filters"]]), "units": [parameters["units"]]}
    return rounded


def as_parameters(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields as the parameters of a trial, each within the space."""
    names = {filters: name for name, filters in FILTERS.items()}
    batch_size = min((8, 16, 32), key=lambda size: abs(size - recipe["batch_size"]))
    return {
        "filters": names.get(recipe["filters"], "32"),
        "kernel": min(max(recipe["kernel"], 3), 9),
        "units": min(max(16 * round(recipe["units"][0] / 16), 16), 64),
        "dropout": min(recipe["dropout"], 0.5),
        **{name: min(recipe[name], 0.2) for name in AUGMENTATIONS},
        "learning_rate": min(max(recipe["learning_rate"], 1e-3), 2e-2),
        "l2": min(max(recipe["l2"], 1e-5), 1e-2),
        "batch_size": batch_size,
    }
