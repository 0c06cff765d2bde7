"""The laws of exactly-once, as one pure function over the records of an input and an output topic.

It knows the record contracts and nothing of the worker: what each sample must have become follows from the input
alone (which sequence, which timestep), and the numbers from a reference, the outputs of a run that nobody disturbed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Source = tuple[int, int]  # partition and offset of an input record


@dataclass(frozen=True)
class Input:
    """A record of the input topic; a tombstone is one without a sample that ends its sequence."""

    partition: int
    offset: int
    stream: bytes
    is_sample: bool = True
    is_end: bool = False


@dataclass(frozen=True)
class Output:
    """A committed record of the output topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Violation:
    """A broken law: missing, doubled, foreign, unreadable, misattributed, reordered, split or altered."""

    law: str
    source: Source | None
    words: str


@dataclass(frozen=True)
class _Place:
    """Where a sample stands in its stream."""

    stream: str
    sequence: str
    timestep: int


def check(
    inputs: Iterable[Input],
    outputs: Iterable[Output],
    reference: Iterable[Output] | None = None,
    dead_letters: Iterable[Source] = (),
) -> list[Violation]:
    """Hold outputs against the input they came from, and against a reference.

    Args:
        inputs: all records of the input topic, each partition in offset order.
        outputs: all committed records of the output topic, each partition in offset order.
        reference: what an undisturbed run over the same input published; None compares no numbers.
        dead_letters: sources that became dead letters instead.

    Returns:
        Every broken law; nothing when the outputs are exact.
    """
    inputs = list(inputs)
    refused = set(dead_letters)
    outputs = list(outputs)
    places = _places(record for record in inputs if (record.partition, record.offset) not in refused)
    parsed = [(output, _parse(output.value)) for output in outputs]
    violations = [
        Violation("unreadable", None, f"output {output.partition}-{output.offset}: {output.value[:200]!r}")
        for output, event in parsed
        if event is None
    ]
    events = [(output, event) for output, event in parsed if event is not None]
    violations += _one_output_per_sample(places, events)
    violations += _right_place(places, events)
    violations += _stream_order(events)
    if reference is not None:
        violations += _same_bytes(events, reference)
    return violations


def _places(inputs: Iterable[Input]) -> dict[Source, _Place]:
    """What every sample must be, by counting: a stream starts anew after each end marker."""
    first: dict[tuple[int, bytes], int] = {}
    count: dict[tuple[int, bytes], int] = {}
    places = {}
    for record in inputs:
        stream = (record.partition, record.stream)
        if record.is_sample:
            start = first.setdefault(stream, record.offset)
            timestep = count.get(stream, 0)
            places[record.partition, record.offset] = _Place(
                record.stream.decode(), f"{record.partition}-{start}", timestep
            )
            count[stream] = timestep + 1
        if record.is_end:
            first.pop(stream, None)
            count.pop(stream, None)
    return places


def _parse(value: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(value)
        event["source"] = (int(event["source"][0]), int(event["source"][1]))
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return event  # type: ignore[no-any-return]


Events = Sequence[tuple[Output, Mapping[str, Any]]]


def _one_output_per_sample(places: Mapping[Source, _Place], events: Events) -> list[Violation]:
    times: dict[Source, int] = {}
    for _, event in events:
        times[event["source"]] = times.get(event["source"], 0) + 1
    violations = [Violation("missing", source, "no output") for source in places if source not in times]
    for source, number in times.items():
        if source not in places:
            violations.append(Violation("foreign", source, f"{number} outputs of what is no sample"))
        elif number > 1:
            violations.append(Violation("doubled", source, f"{number} outputs"))
    return violations


def _right_place(places: Mapping[Source, _Place], events: Events) -> list[Violation]:
    violations = []
    for output, event in events:
        wanted = places.get(event["source"])
        found = _Place(event.get("stream_id", ""), event.get("sequence", ""), event.get("timestep", -1))
        if wanted is not None and (found != wanted or output.key != wanted.stream.encode()):
            words = f"expected {wanted}, received {found} under key {output.key!r}"
            violations.append(Violation("misattributed", event["source"], words))
    return violations


def _stream_order(events: Events) -> list[Violation]:
    """In the output topic a stream's events follow one another as its samples did, all in one partition."""
    latest: dict[tuple[int, bytes], tuple[Output, Source]] = {}
    violations = []
    for output, event in sorted(events, key=lambda pair: (pair[0].partition, pair[0].offset)):
        source = event["source"]
        before = latest.get((source[0], output.key))
        if before is not None and before[0].partition != output.partition:
            words = f"in output partition {output.partition}, others of its stream in {before[0].partition}"
            violations.append(Violation("split", source, words))
        elif before is not None and before[1] > source:
            violations.append(Violation("reordered", source, f"published after {before[1]}"))
        latest[source[0], output.key] = (output, source)
    return violations


def _same_bytes(events: Events, reference: Iterable[Output]) -> list[Violation]:
    wanted: dict[Source, bytes] = {}
    for output in reference:
        event = _parse(output.value)
        assert event is not None, f"the reference is unreadable: {output.value[:200]!r}"
        wanted[event["source"]] = output.value
    return [
        Violation("altered", event["source"], f"expected {wanted[event['source']]!r}, received {output.value!r}")
        for output, event in events
        if event["source"] in wanted and output.value != wanted[event["source"]]
    ]
