"""A recipe as a TOML file: what `cellstream train --recipe` takes and `cellstream tune` writes.

[network]
preset = "conv-gru"     # what is not said here is the preset's
filters = [32, 32]
learning_rate = 0.003

[ensemble]
folds = 4
smoothing = 0.3
decision = "early"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from training.networks import PRESETS, Recipe
from worker.errors import UsageError

CHOICES = {"cell": ("lstm", "gru"), "schedule": ("constant", "cosine")}
# The least and the most that a number may be; 0 and no end where nothing is said.
LEAST = {"units": 1, "filters": 1, "kernel": 1, "batch_size": 1, "epochs": 1, "patience": 1, "learning_rate": 1e-9}
MOST = {"dropout": 0.99, "noise": 1.0, "label_smoothing": 0.99}


@dataclass(frozen=True)
class Ensemble:
    """The section `ensemble`: options of `cellstream train` by the same names."""

    folds: int = 0
    smoothing: float = 0.0
    decision: str | None = None


def read_recipe(path: Path) -> tuple[Recipe, Ensemble]:
    """Read a recipe.

    Raises:
        UsageError: with everything that is wrong with it.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"--recipe {path}: {problem}") from problem
    problems = [
        f"unknown section {name!r}{_near(name, ('network', 'ensemble'))}"
        for name in told
        if name not in ("network", "ensemble")
    ]
    flat = [name for name in ("network", "ensemble") if not isinstance(told.get(name, {}), dict)]
    if flat:
        raise UsageError(f"--recipe {path}: {' and '.join(flat)}: expected a section, such as [{flat[0]}]")
    network = dict(told.get("network", {}))
    preset = network.pop("preset", "seed-32-16-8")
    if not isinstance(preset, str) or preset not in PRESETS:
        problems.append(f"network.preset {preset!r}: expected one of {', '.join(PRESETS)}")
    fields = _checked("network", network, Recipe, problems)
    ensemble = _checked("ensemble", told.get("ensemble", {}), Ensemble, problems)
    if problems:
        raise UsageError(f"--recipe {path}: " + "; ".join(problems))
    return replace(PRESETS[preset], **fields), Ensemble(**ensemble)


def write_recipe(path: Path, preset: str, network: dict[str, Any], ensemble: dict[str, Any], words: str) -> None:
    """Write a recipe.

    Args:
        path: of the file; replaced.
        preset: what the network's section goes out from.
        network: what differs from it.
        ensemble: of its section.
        words: a comment at the top.
    """
    lines = [f"# {line}" for line in words.splitlines()]
    for section, values in (("network", {"preset": preset, **network}), ("ensemble", ensemble)):
        lines += ["", f"[{section}]", *(f"{name} = {_toml(value)}" for name, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _checked(section: str, told: dict[str, Any], kind: type, problems: list[str]) -> dict[str, Any]:
    """The values of a section; what is wrong with them is added to `problems`."""
    types = get_type_hints(kind)
    values = {}
    for name, value in told.items():
        if name not in types:
            problems.append(f"unknown {section}.{name}{_near(name, tuple(types))}")
            continue
        try:
            values[name] = msgspec.convert(value, types[name])
        except msgspec.ValidationError as problem:
            problems.append(f"{section}.{name} = {_toml(value)}: {str(problem).lower()}")
            continue
        numbers = values[name] if isinstance(values[name], tuple) else (values[name],)
        least, most = LEAST.get(name, 0), MOST.get(name, float("inf"))
        if name in CHOICES and value not in CHOICES[name]:
            problems.append(f"{section}.{name} = {_toml(value)}: expected {' or '.join(CHOICES[name])}")
        elif any(not least <= number <= most for number in numbers if isinstance(number, int | float)):
            bounds = f"{least} or more" if most == float("inf") else f"{least} to {most}"
            problems.append(f"{section}.{name} = {_toml(value)}: expected {bounds}")
    return values


def _near(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, 1)
    return f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _toml(value: Any) -> str:
    """Text, numbers, booleans and lists of them: all that a recipe has; JSON's form is TOML's."""
    return msgspec.json.encode(value).decode()
