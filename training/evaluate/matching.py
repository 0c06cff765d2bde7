"""Labelled sequences that fit an artifact: features by name, classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from training.datasets import Sequences
from worker.artifact import Manifest
from worker.errors import UsageError


@dataclass(frozen=True)
class Matched:
    """Sequences, and the classes that the artifact tells apart.

    Attributes:
        sequences: their inputs are in the artifact's order of features.
        classes: every class; of an artifact with one probability, the class that it has no name for comes first.
        labels: for each sequence `(its timesteps,)` int64, indices into `classes`.
    """

    sequences: Sequences
    classes: tuple[str, ...]
    labels: tuple[NDArray[np.int64], ...]


def features_of(manifest: Manifest, features: str | None) -> str:
    """The artifact's features as the option `--features` has them: what a table's columns must be called.

    Args:
        manifest: of the artifact.
        features: the option, in any order; None for all of the artifact's.

    Raises:
        UsageError: the option names others.
    """
    named = tuple(name.strip() for name in features.split(",")) if features else manifest.features
    if set(named) != set(manifest.features):
        problems = []
        missing = [name for name in manifest.features if name not in named]
        if missing:
            problems.append(f"it lacks {_some(missing)}")
        unknown = [name for name in named if name not in manifest.features]
        if unknown:
            problems.append(f"the artifact has no {_some(unknown)}")
        raise UsageError(
            f"--features {features}: {' and '.join(problems)}; the artifact takes {','.join(manifest.features)}, which "
            "are used if the option is left out"
        )
    return ",".join(manifest.features)


def match(sequences: Sequences, manifest: Manifest) -> Matched:
    """Number the labels as the artifact's classes.

    Raises:
        UsageError: the artifact takes other features, or knows other classes.
    """
    if sequences.features != manifest.features:
        raise UsageError(
            f"{sequences.name} has the features {_some(sequences.features)}, the artifact takes "
            f"{_some(manifest.features)}: evaluate it on data with the features that it was trained on"
        )
    if len(manifest.classes) == 1:
        classes: tuple[str, ...] = _two_classes(sequences, manifest.classes[0])
    else:
        classes = manifest.classes
        unknown = [name for name in sequences.classes if name not in classes]
        if unknown:
            near = get_close_matches(unknown[0], classes, 1)
            raise UsageError(
                f"{sequences.name} is labelled {_some(unknown)}, which the artifact does not know"
                + (f" (did you mean {near[0]!r}?)" if near else "")
                + f": it tells apart {_some(classes)}"
            )
    numbers = np.array([classes.index(name) for name in sequences.classes], np.int64)
    own = sequences.timestep_labels or tuple(
        np.full(len(inputs), label, np.int64) for inputs, label in zip(sequences.inputs, sequences.labels, strict=True)
    )
    return Matched(sequences, classes, tuple(numbers[labels] for labels in own))


def _two_classes(sequences: Sequences, positive: str) -> tuple[str, str]:
    """The name of the class that a single probability is not of, and of the one that it is of."""
    others = [name for name in sequences.classes if name != positive]
    if len(others) != 1 or len(sequences.classes) != 2:
        raise UsageError(
            f"the artifact has one probability, that of {positive!r} against one other class; {sequences.name} is "
            f"labelled {_some(sequences.classes)}"
        )
    return others[0], positive


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
