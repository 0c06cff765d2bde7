"""Labelled sequences, their division, and the real recordings that come with the `aeon` package.

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

from training.splits import fold_indices, split_indices
from worker.errors import UsageError


@dataclass(frozen=True)
class Sequences:
    """Sequences with a label each, or with a label for every timestep.

    Attributes:
        name: of the data set.
        inputs: each `(timesteps, features)` float32, of any length.
        labels: `(n,)` int64, indices into `classes`; where timesteps have their own, the rarest that occurs.
        features: their names, in the order of the last axis of every input.
        classes: their names.
        stream_ids: one name for each sequence, unique, the same on every machine.
        streams: whose each sequence is; a stream is never divided. Empty where every sequence is a stream of its own.
        timestep_labels: for each sequence `(timesteps,)` int64; None where a label is the whole sequence's.
    """

    name: str
    inputs: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    stream_ids: tuple[str, ...]
    streams: tuple[str, ...] = ()
    timestep_labels: tuple[NDArray[np.int64], ...] | None = None

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
            streams=tuple(self.streams[i] for i in indices) if self.streams else (),
            timestep_labels=self.timestep_labels and tuple(self.timestep_labels[i] for i in indices),
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
            f"no data set {name!r}: {' and '.join(BUNDLED)} are bundled; a table is a file with a suffix (.csv, "
            ".parquet, .npz, .sqlite, .db) or a database's URL"
        )
    return BUNDLED[name]()


def split(sequences: Sequences, seed: int = 0) -> Split:
    """Divide by stream, every class in the same proportion; the same seed gives the same parts.

    A stream of several sequences counts as one of the rarest class that occurs in it, and stays in one part.

    Raises:
        UsageError: a class has too few streams to be in all three parts.
    """
    stream, rarest = _by_stream(sequences)
    parts = split_indices(rarest, sequences.classes, seed)
    return Split(*(sequences.take(np.flatnonzero(np.isin(stream, part))) for part in parts))


def folds_of(sequences: Sequences, folds: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Indices of the sequences of each fold: divided by stream, every class in the same proportion.

    Raises:
        UsageError: there are fewer streams than folds.
    """
    stream, rarest = _by_stream(sequences)
    return [np.flatnonzero(np.isin(stream, part)) for part in fold_indices(rarest, folds, seed)]


def join(one: Sequences, other: Sequences) -> Sequences:
    """The sequences of two parts of one data set."""
    own = (one.timestep_labels or ()) + (other.timestep_labels or ())
    return replace(
        one,
        inputs=one.inputs + other.inputs,
        labels=np.concatenate([one.labels, other.labels]),
        stream_ids=one.stream_ids + other.stream_ids,
        streams=one.streams + other.streams,
        timestep_labels=own or None,
    )


def _by_stream(sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each sequence's stream, `(n,)`, and the rarest class that occurs in each stream, `(streams,)`."""
    streams = np.array(sequences.streams or sequences.stream_ids)
    _, first, stream = np.unique(streams, return_index=True, return_inverse=True)
    stream = np.argsort(np.argsort(first))[stream]  # numbered in the order of their first sequences
    counts = np.zeros((len(first), len(sequences.classes)), np.int64)
    np.add.at(counts, (stream, sequences.labels), 1)
    return stream, np.where(counts > 0, counts.sum(axis=0), len(stream) + 1).argmin(axis=1)


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
