"""What must have become of the input: events of each record in order, dead letters, and the samples by sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.checker.contract import End, Partition, Place
from tests.chaos.checker.records import Input, Rules, Source


@dataclass
class Expected:
    """What must have become of the input.

    Attributes:
        events: of each record that has any, in order.
        times: timestamp of the events of each record, where it is known.
        samples: features of each sequence, in order, where the inputs have them.
        refused: records that must be dead letters.
        possible: records that may be, because nobody has judged them.
    """

    events: dict[Source, list[Place | End]] = field(default_factory=dict)
    times: dict[Source, int] = field(default_factory=dict)
    samples: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    refused: set[Source] = field(default_factory=set)
    possible: set[Source] = field(default_factory=set)


def expect(inputs: Iterable[Input], dead_letters: Iterable[Source | None], rules: Rules) -> Expected:
    """What must become of the inputs, given which of them nobody has judged became dead letters."""
    found = Expected()
    became = set(dead_letters)
    partitions: dict[int, Partition] = {}
    for record in inputs:
        if record.refused:
            found.refused.add(record.source)
        if record.refused is None:
            found.possible.add(record.source)
        if record.refused or record.source in became:
            continue
        partition = partitions.setdefault(record.partition, Partition(record.partition, rules))
        events = partition.feed(record)
        places = [event for event in events if isinstance(event, Place)]
        if record.samples is not None:
            for place, sample in zip(places, record.samples, strict=True):
                found.samples.setdefault(place.sequence, []).append(sample)
        wanted = events if rules.closing_events else places
        if wanted:
            found.events[record.source] = list(wanted)
            if record.time_ms is not None:
                found.times[record.source] = record.time_ms if record.time_ms >= 0 else partition.time_ms
    return found
