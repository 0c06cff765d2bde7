"""What is in the data, before anything is trained on it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from training.datasets import Sequences, Split

FEW = 20  # sequences of a class in training; below it a network mostly learns the sequences themselves
RARE = 10  # times as many as the rarest class


def describe(sequences: Sequences, parts: Split) -> dict[str, Any]:
    """Facts of a data set and of its division, as JSON; `warnings` are sentences for people."""
    lengths = sequences.lengths
    by_part = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    classes = {
        name: {part: _occurrences(chosen, number) for part, chosen in by_part.items()}
        for number, name in enumerate(sequences.classes)
    }
    return {
        "sequences": len(sequences),
        "streams": len(set(sequences.streams or sequences.stream_ids)),
        "timesteps": {
            "all": int(lengths.sum()),
            "shortest": int(lengths.min()),
            "median": float(np.median(lengths)),
            "longest": int(lengths.max()),
        },
        "labels": "timestep" if sequences.timestep_labels is not None else "sequence",
        "classes": classes,
        "features": _ranges(sequences),
        "missing_values": 0,  # a table with one is refused
        "leaks": {"streams": parts.shared_streams(), "equal_sequences": equal_sequences(parts)},
        "warnings": _warnings(sequences, parts, classes),
    }


def equal_sequences(parts: Split) -> list[tuple[str, str]]:
    """Sequences of validation and test that training has too, value for value, under another name."""
    known = {_digest(inputs): name for inputs, name in zip(parts.train.inputs, parts.train.stream_ids, strict=True)}
    held_out = [
        (_digest(inputs), name)
        for part in (parts.validation, parts.test)
        for inputs, name in zip(part.inputs, part.stream_ids, strict=True)
    ]
    return [(known[digest], name) for digest, name in held_out if digest in known]


def lines(facts: dict[str, Any]) -> list[str]:
    """The report for a terminal."""
    timesteps = facts["timesteps"]
    told = [
        f"sequences       {facts['sequences']:,} of {facts['streams']:,} streams",
        f"timesteps       {timesteps['all']:,}; {timesteps['shortest']:,} to {timesteps['longest']:,} in a sequence, "
        f"median {timesteps['median']:,.0f}",
        f"labels          one for each {facts['labels']}",
        "missing values  none",
    ]
    for name, parts in facts["classes"].items():
        divided = ", ".join(f"{count:,} {part}" for part, count in parts.items())
        told.append(f"class {name!r}: {sum(parts.values()):,} sequences ({divided})")
    for name, (low, mean, high) in facts["features"].items():
        told.append(f"feature {name!r}: {low:.4g} to {high:.4g}, mean {mean:.4g}")
    leaks = facts["leaks"]["equal_sequences"]
    told.append(
        f"leaks           {len(leaks)} held-out sequences equal one of training" if leaks else "leaks           none"
    )
    return told + [f"warning: {sentence}" for sentence in facts["warnings"]]


def _occurrences(part: Sequences, number: int) -> int:
    """In how many sequences a class occurs."""
    if part.timestep_labels is None:
        return int((part.labels == number).sum())
    return sum(bool((own == number).any()) for own in part.timestep_labels)


def _ranges(sequences: Sequences) -> dict[str, tuple[float, float, float]]:
    """Minimum, mean and maximum of each feature."""
    values = np.concatenate(sequences.inputs).astype(np.float64)  # (all timesteps, features)
    numbers = zip(values.min(axis=0), values.mean(axis=0), values.max(axis=0), strict=True)
    return {
        name: (float(low), float(mean), float(high))
        for name, (low, mean, high) in zip(sequences.features, numbers, strict=True)
    }


def _warnings(sequences: Sequences, parts: Split, classes: dict[str, dict[str, int]]) -> list[str]:
    found = []
    few = [f"{name!r} ({counts['train']})" for name, counts in classes.items() if counts["train"] < FEW]
    if few:
        found.append(f"classes with fewer than {FEW} sequences to train on: {', '.join(few)}; accuracies say little")
    sizes = [sum(counts.values()) for counts in classes.values()]
    if max(sizes) > RARE * min(sizes):
        found.append(f"the rarest class has {min(sizes):,} sequences, the most frequent one {max(sizes):,}")
    alike: dict[str, list[str]] = {}
    for name in sequences.classes:
        alike.setdefault(name.strip().casefold(), []).append(repr(name))
    twins = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if twins:
        found.append(f"classes that differ in spaces or capitals only: {', '.join(twins)}")
    constant = [name for name, (low, _, high) in _ranges(sequences).items() if low == high]
    if constant:
        found.append(f"features that never change: {', '.join(map(repr, constant))}")
    leaks = equal_sequences(parts)
    if leaks:
        shown = ", ".join(f"{other!r} = {name!r}" for name, other in leaks[:3])
        found.append(f"{len(leaks)} held-out sequences equal one that is trained on ({shown}): accuracies flatter")
    return found


def _digest(inputs: np.ndarray) -> bytes:
    return hashlib.sha256(f"{inputs.shape}".encode() + inputs.tobytes()).digest()
