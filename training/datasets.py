"""Labelled sequences, and the real recordings that come with the `aeon` package.

Both bundled sets lie inside aeon's wheel, so nothing is downloaded:

    basic-motions     a smart watch's accelerometer and gyroscope at 10 Hz while its wearer stands, walks, runs or
                      plays badminton: 80 recordings x 100 timesteps x 6 features
    japanese-vowels   12 cepstrum coefficients of two vowels in a row: 640 utterances x 7 to 29 timesteps, 9 speakers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from training.splits import split_indices
from worker.errors import UsageError


@dataclass(frozen=True)
class Sequences:
    """Sequences with one label each.

    Attributes:
        name: of the data set.
        inputs: each `(timesteps, features)` float32, of any length.
        labels: `(n,)` int64, indices into `classes`.
        features: their names, in the order of the last axis of every input.
        classes: their names.
        stream_ids: one name for each sequence, unique, the same on every machine.
    """

    name: str
    inputs: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    stream_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Timesteps of each sequence, `(n,)`."""
        return np.array([len(sequence) for sequence in self.inputs], np.int64)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Sequences:
        """The sequences at `indices`, in that order."""
        return replace(
            self,
            inputs=tuple(self.inputs[i] for i in indices),
            labels=self.labels[np.asarray(indices, np.int64)],
            stream_ids=tuple(self.stream_ids[i] for i in indices),
        )


@dataclass(frozen=True)
class Split:
    """Three parts without a sequence in common."""

    train: Sequences
    validation: Sequences
    test: Sequences


def load(name: str) -> Sequences:
    """A bundled data set.

    Raises:
        UsageError: no such set, or aeon is not installed.
    """
    if name not in BUNDLED:
        raise UsageError(
            f"no data set {name!r}: {' and '.join(BUNDLED)} are bundled; "
            "training on a table (CSV, Parquet, .npz) is not possible yet"
        )
    return BUNDLED[name]()


def split(sequences: Sequences, seed: int = 0) -> Split:
    """Divide by sequence, every class in the same proportion; the same seed gives the same parts.

    Raises:
        UsageError: a class has too few sequences to be in all three parts.
    """
    train, validation, test = split_indices(sequences.labels, sequences.classes, seed)
    return Split(sequences.take(train), sequences.take(validation), sequences.take(test))


def held_out(name: str, seed: int = 0) -> Sequences:
    """The recordings that training with this seed never saw, for `publish` and `demo`."""
    return split(load(name), seed).test


def _basic_motions() -> Sequences:
    inputs, labels = _aeon("load_basic_motions")
    axes = [f"{sensor}_{axis}" for sensor in ("acceleration", "rotation") for axis in "xyz"]
    return _sequences("basic-motions", inputs, labels, axes)


def _japanese_vowels() -> Sequences:
    inputs, labels = _aeon("load_japanese_vowels")
    speakers = [f"speaker_{label}" for label in labels]
    return _sequences("japanese-vowels", inputs, speakers, [f"lpc_{i}" for i in range(1, 13)])


def _aeon(loader: str) -> tuple[Sequence[NDArray[np.float64]], Sequence[str]]:
    """`(features, timesteps)` arrays and their labels, as aeon has them."""
    try:
        import aeon.datasets
    except ImportError as missing:
        raise UsageError(
            f"the bundled data sets come with aeon, which cannot be imported ({missing}): "
            "pip install 'cellstream[training]'"
        ) from missing
    inputs, labels = getattr(aeon.datasets, loader)()
    return inputs, [str(label) for label in labels]


def _sequences(
    name: str, inputs: Sequence[NDArray[np.float64]], labels: Sequence[str], features: Sequence[str]
) -> Sequences:
    classes = sorted(set(labels))
    return Sequences(
        name=name,
        inputs=tuple(np.ascontiguousarray(sequence.T, dtype=np.float32) for sequence in inputs),
        labels=np.array([classes.index(label) for label in labels], np.int64),
        features=tuple(features),
        classes=tuple(classes),
        stream_ids=tuple(f"{name}-{i:03d}" for i in range(len(labels))),
    )


BUNDLED: dict[str, Callable[[], Sequences]] = {
    "basic-motions": _basic_motions,
    "japanese-vowels": _japanese_vowels,
}

# The entry points of the group `cellstream.datasets`: what `cellstream publish NAME` sends.
basic_motions = partial(held_out, "basic-motions")
japanese_vowels = partial(held_out, "japanese-vowels")
