"""Division of labelled sequences into training, validation and test, and into folds: stratified and reproducible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.errors import UsageError

TEST_SHARE = 0.25
VALIDATION_SHARE = 0.2

Indices = NDArray[np.int64]


def split_indices(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    seed: int,
    held_out: float = TEST_SHARE,
    begins: NDArray[np.float64] | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Indices of the training, validation and test sequences, each sorted.

    Each class is shuffled and cut by itself, so every part has every class in the same proportion, to one sequence.

    Args:
        labels: `(n,)` int64, indices into `classes`.
        classes: their names, for the error.
        seed: of the shuffle; nothing else of chance is used.
        held_out: share of the test part; 0 leaves it empty.
        begins: `(n,)`, when each begins: then the last of each class are the test part, and those before them the
            validation part. None for chance.

    Raises:
        UsageError: a class has fewer sequences than there are parts.
    """
    parts_wanted = 3 if held_out else 2
    chance = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    counts = {name: int((labels == label).sum()) for label, name in enumerate(classes)}
    few = [f"{name!r} has {count}" for name, count in counts.items() if 0 < count < parts_wanted]
    if few:
        needing = "training, validation and test need" if held_out else "training and validation need"
        hint = "; --hold-out 0 does without a test part" if held_out else ""
        raise UsageError(f"too few streams of a class: {', '.join(few)}; {needing} one of each{hint}")
    for label in range(len(classes)):
        members = chance.permutation(np.flatnonzero(labels == label))
        if not len(members):
            continue  # a class of timesteps that occurs only beside rarer ones, and goes where they go
        if begins is not None:
            members = members[np.argsort(-begins[members], kind="stable")]
        tests = min(max(1, round(held_out * len(members))), len(members) - 2) if held_out else 0
        validations = min(max(1, round(VALIDATION_SHARE * len(members))), len(members) - tests - 1)
        parts[2].extend(members[:tests])
        parts[1].extend(members[tests : tests + validations])
        parts[0].extend(members[tests + validations :])
    train, validation, test = (np.sort(np.array(part, np.int64)) for part in parts)
    return train, validation, test


def fold_indices(labels: NDArray[np.int64], folds: int, seed: int) -> list[Indices]:
    """Indices of each fold's sequences, sorted; every sequence is in one fold.

    Each class is shuffled and dealt out by itself, going on where the one before it ended.

    Args:
        labels: `(n,)` int64.
        folds: how many.
        seed: of the shuffle.

    Raises:
        UsageError: there are fewer sequences than folds.
    """
    if not 2 <= folds <= len(labels):
        raise UsageError(f"{folds} folds of {len(labels)} streams: expected 2 to {len(labels)}")
    chance = np.random.default_rng(seed)
    dealt = np.concatenate([chance.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    return [np.sort(dealt[fold::folds]) for fold in range(folds)]
