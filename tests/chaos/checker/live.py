"""What must hold at every moment of a run, from what was seen while it lasted: pure functions over observations.

A transaction makes outputs, dead letters and offsets visible together. So whoever asks for the committed offsets first
and for the ends of the output topics then must find everything below the offsets published below the ends; and what a
reader of committed records has seen before he asks must lie below the offsets that he is told. The broker does not
tell an offset whose transaction is being completed (KIP-447), so both are exact and need no patience.

    went back       a committed offset is smaller than it was
    vanished        a group that had committed an offset has none
    premature       an offset was committed, and its records' outputs were not there yet
    uncommitted     an output could be read, and its record's offset was not committed yet
    ahead           a checkpoint was there, and its offset was not committed yet
    retracted       a reader saw what is not there at the end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.chaos.checker.records import Source, Violation

Place = tuple[str, int]  # topic and partition
Published = tuple[Place, int, Source]  # where a record of an output topic is, and the input record that it is about


@dataclass(frozen=True)
class Observation:
    """One look, its parts in the order in which they were taken.

    Attributes:
        at_s: wall-clock time, seconds since the epoch.
        seen: how many records a reader of committed records had seen.
        saved: the newest offset in the checkpoints' names, by partition.
        committed: the group's offset of each partition, negative where it has none.
        ends: the end of the output topics' partitions, committed or not.
        forgiven: the operator has moved or deleted offsets since the observation before.
    """

    at_s: float
    seen: int
    saved: dict[int, int]
    committed: tuple[int, ...]
    ends: dict[Place, int]
    forgiven: bool = False


def monotone(observations: Sequence[Observation]) -> list[Violation]:
    """Committed offsets never go back."""
    violations = []
    latest: dict[int, int] = {}
    for observation in observations:
        if observation.forgiven:
            latest.clear()
        for partition, offset in enumerate(observation.committed):
            before = latest.get(partition, -1)
            if 0 <= offset < before:
                source = (partition, offset)
                violations.append(
                    Violation("went back", source, f"committed {offset} after {before}", observation.at_s)
                )
            elif offset < 0 <= before:
                words = f"no committed offset after {before}"
                violations.append(Violation("vanished", (partition, before), words, observation.at_s))
            latest[partition] = offset
    return violations


def published_when_committed(observations: Sequence[Observation], published: Iterable[Published]) -> list[Violation]:
    """Below a committed offset everything that was ever published is there already.

    Args:
        observations: in order.
        published: the output topics at the end, each partition in order; of what is there twice the first counts.
    """
    first: dict[tuple[Place, Source], int] = {}
    for place, offset, source in published:
        first.setdefault((place, source), offset)
    columns: dict[tuple[int, Place], list[tuple[int, int]]] = {}
    for (place, (partition, answered)), offset in first.items():
        columns.setdefault((partition, place), []).append((answered, offset))
    violations = []
    for (partition, place), pairs in columns.items():
        by_source = np.array(sorted(pairs))  # (records, 2): source offset, output offset
        latest = np.maximum.accumulate(by_source[:, 1])
        looks = [o for o in observations if place in o.ends and len(o.committed) > partition]
        below = np.searchsorted(by_source[:, 0], [o.committed[partition] for o in looks])
        needed = np.where(below > 0, latest[below - 1], -1)
        told: set[int] = set()
        for i in np.flatnonzero(needed >= [o.ends[place] for o in looks]).tolist():
            look, end = looks[i], looks[i].ends[place]
            row = int(np.argmax(by_source[:, 1] >= end))
            if row in told:
                continue
            told.add(row)
            words = (
                f"committed {look.committed[partition]}, while {place[0]}[{place[1]}] ended at {end}; "
                f"its output came at {by_source[row, 1]}"
            )
            violations.append(Violation("premature", (partition, int(by_source[row, 0])), words, look.at_s))
    return violations


def committed_when_readable(observations: Sequence[Observation], seen: Sequence[Source]) -> list[Violation]:
    """What a reader has seen is committed.

    Args:
        observations: in order.
        seen: the input records of what the reader saw, in the order in which he did.
    """
    violations = []
    highest: dict[int, int] = {}
    told: set[Source] = set()
    read = 0
    for observation in observations:
        for partition, offset in seen[read : observation.seen]:
            highest[partition] = max(highest.get(partition, -1), offset)
        read = max(read, observation.seen)
        if observation.forgiven:
            highest.clear()
        for partition, offset in highest.items():
            early = partition < len(observation.committed) and 0 <= observation.committed[partition] <= offset
            if early and (partition, offset) not in told:
                told.add((partition, offset))
                words = f"readable, while {observation.committed[partition]} was committed"
                violations.append(Violation("uncommitted", (partition, offset), words, observation.at_s))
    return violations


def saved_when_committed(observations: Sequence[Observation]) -> list[Violation]:
    """A checkpoint is of committed state: its offset never exceeds the committed one that is asked for after it."""
    violations = []
    told: set[Source] = set()
    for observation in observations:
        for partition, saved in observation.saved.items():
            committed = observation.committed[partition]
            if 0 <= committed < saved and (partition, saved) not in told:
                told.add((partition, saved))
                words = f"a checkpoint at {saved}, while {committed} was committed"
                violations.append(Violation("ahead", (partition, saved), words, observation.at_s))
    return violations
