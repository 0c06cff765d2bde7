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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.splits import TEST_SHARE, fold_indices, split_indices
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
        begins: when each sequence begins, by the column that a table is ordered by; empty where it is not known.
    """

    name: str
    inputs: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    stream_ids: tuple[str, ...]
    streams: tuple[str, ...] = ()
    timestep_labels: tuple[NDArray[np.int64], ...] | None = None
    begins: tuple[float, ...] = ()

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
            begins=tuple(self.begins[i] for i in indices) if self.begins else (),
        )


@dataclass(frozen=True)
class Split:
    """Three parts without a sequence in common, and how they were divided: see `split`."""

    train: Sequences
    validation: Sequences
    test: Sequences
    held_out: float = TEST_SHARE
    by_time: bool = False

    def __post_init__(self) -> None:
        """Refuse a stream that is in two parts: what is learned of it in one would flatter the other.

        Raises:
            UsageError: names some of them.
        """
        shared = self.shared_streams()
        if shared:
            shown = ", ".join(map(repr, shared[:5])) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
            raise UsageError(f"streams are in more than one of training, validation and test: {shown}")

    def shared_streams(self) -> list[str]:
        """Streams that are in more than one part; none once there is a split."""
        owners = [set(part.streams or part.stream_ids) for part in (self.train, self.validation, self.test)]
        return sorted((owners[0] & owners[1]) | (owners[0] & owners[2]) | (owners[1] & owners[2]))

    def facts(self) -> dict[str, Any]:
        """For the manifest: what `evaluate --held-out` needs to divide the same sequences again."""
        return {
            "sequences": {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            "division": {"held_out": self.held_out, "by_time": self.by_time},
        }


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


def split(sequences: Sequences, seed: int = 0, held_out: float = TEST_SHARE, *, by_time: bool = False) -> Split:
    """Divide by stream, every class in the same proportion; the same seed gives the same parts.

    A stream of several sequences counts as one of the rarest class that occurs in it, and stays in one part.

    Args:
        sequences: of one data set.
        seed: of chance.
        held_out: share of the test part, below 1; 0 leaves it empty.
        by_time: hold out the streams of each class that begin last, and validate on those before them.

    Raises:
        UsageError: a class has too few streams to be in all parts, or it is not known when streams begin.
    """
    stream, rarest = _by_stream(sequences)
    begins = _begins(sequences, stream) if by_time else None
    parts = split_indices(rarest, sequences.classes, seed, held_out, begins)
    train, validation, test = (sequences.take(np.flatnonzero(np.isin(stream, part))) for part in parts)
    return Split(train, validation, test, held_out, by_time)


def _begins(sequences: Sequences, stream: NDArray[np.int64]) -> NDArray[np.float64]:
    """When each stream begins, `(streams,)`."""
    if len(set(sequences.begins)) < 2:
        raise UsageError(
            "--split time: it is not known which streams came first; name a column of times that all streams share "
            "with --order"
        )
    first = np.full(stream.max() + 1, np.inf)
    np.minimum.at(first, stream, np.array(sequences.begins))
    return first


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
        begins=one.begins + other.begins,
    )


def labels_along(sequences: Sequences) -> tuple[NDArray[np.int64], ...]:
    """The label at each timestep, for each sequence `(its timesteps,)`."""
    if sequences.timestep_labels is not None:
        return sequences.timestep_labels
    return tuple(np.full(n, label) for n, label in zip(sequences.lengths, sequences.labels, strict=True))


def _by_stream(sequences: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each sequence's stream, `(n,)`, and the rarest class that occurs in each stream, `(streams,)`."""
    streams = np.array(sequences.streams or sequences.stream_ids)
    _, first, stream = np.unique(streams, return_index=True, return_inverse=True)
    stream = np.argsort(np.argsort(first))[stream]  # numbered in the order of their first sequences
    counts = np.zeros((len(first), len(sequences.classes)), np.int64)
    np.add.at(counts, (stream, sequences.labels), 1)
    return stream, np.where(counts > 0, counts.sum(axis=0), len(stream) + 1).argmin(axis=1)


def held_out(name: str, seed: int = 0, share: float = TEST_SHARE) -> Sequences:
    """The recordings that training with this seed and share never saw, for `publish` and `demo`."""
    return split(load(name), seed, share).test


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
