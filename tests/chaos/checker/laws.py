"""The laws of exactly-once, as one pure function over the records of an input and an output topic.

It knows the record contracts and nothing of the worker: what each sample must have become follows from the input
alone (which sequence, which timestep). The numbers come from Keras, and to the bit from a reference, the outputs of a
run that nobody disturbed.

    missing         a record without its output or dead letter
    doubled         one with more than it should have
    foreign         an output or dead letter of what has none, or is not committed yet
    unreadable      an output that is no event, a dead letter that does not say whose
    misattributed   another stream, sequence, timestep or key: a reset where none is, or none where one is
    misdated        another timestamp
    reordered       a stream's events are not in the order of its samples
    split           a stream's events are in two partitions
    altered         not the bytes of the reference
    inexact         farther from Keras than the certificate allows
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.chaos.checker.contract import End, Place
from tests.chaos.checker.expected import Expected, expect
from tests.chaos.checker.records import DeadLetter, Input, Output, Rules, Source, Violation

NO_RULES = Rules()


@dataclass(frozen=True)
class Numbers:
    """The probabilities of each sequence, `(timesteps, classes)`, and how far an output may be from them."""

    by_sequence: Mapping[str, NDArray[np.float32]]
    tolerance: float


@dataclass(frozen=True)
class Event:
    """An output as read."""

    output: Output
    source: Source
    what: Place | End
    members: Mapping[str, Any]


def check(
    inputs: Iterable[Input],
    outputs: Iterable[Output],
    reference: Iterable[Output] | None = None,
    dead_letters: Iterable[Source | DeadLetter] = (),
    *,
    rules: Rules = NO_RULES,
    numbers: Numbers | None = None,
    topic: str | None = None,
) -> list[Violation]:
    """Hold outputs against the input they came from, and against a reference.

    Args:
        inputs: all records of the input topic that are committed, each partition in offset order.
        outputs: all committed records of the output topic.
        reference: what an undisturbed run over the same input published; None compares no bytes.
        dead_letters: what became dead letters instead.
        rules: of the deployment.
        numbers: Keras' answers; None compares no numbers.
        topic: the input topic, which dead letters must name; None does not ask.

    Returns:
        Every broken law; nothing when the outputs are exact.
    """
    inputs = list(inputs)
    letters = [letter if isinstance(letter, DeadLetter) else letter_of(letter) for letter in dead_letters]
    found = expect(inputs, {letter.source for letter in letters}, rules)
    violations, events = _read(outputs)
    violations += _one_dead_letter_each(found, letters, topic)
    violations += _one_output_per_sample(found, events)
    violations += _stream_order(found, events)
    violations += _times(found, events)
    if reference is not None:
        violations += _same_bytes(events, reference)
    if numbers is not None:
        violations += _same_numbers(found, events, numbers)
    return violations


def letter_of(source: Source) -> DeadLetter:
    """A dead letter of which only the coordinates are known."""
    return DeadLetter(-1, -1, source, "")


def source_of(value: bytes) -> Source | None:
    """The input record that an output is about."""
    event = _event(Output(0, 0, b"", value))
    return None if event is None else event.source


def _read(outputs: Iterable[Output]) -> tuple[list[Violation], list[Event]]:
    violations, events = [], []
    for output in outputs:
        event = _event(output)
        if event is None:
            words = f"output {output.partition}-{output.offset}: {output.value[:200]!r}"
            violations.append(Violation("unreadable", None, words))
        else:
            events.append(event)
    return violations, events


def _event(output: Output) -> Event | None:
    try:
        members = json.loads(output.value)
        source = (int(members["source"][0]), int(members["source"][1]))
        named = members.get("stream_id", ""), members.get("sequence", "")
        what: Place | End
        if members.get("end_of_sequence"):
            what = End(*named, str(members.get("reason")), members.get("length"))
        else:
            what = Place(*named, members.get("timestep", -1))
        hash(what)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    return Event(output, source, what, members)


def _one_dead_letter_each(found: Expected, letters: Sequence[DeadLetter], topic: str | None) -> list[Violation]:
    times = Counter(letter.source for letter in letters)
    violations = [Violation("missing", source, "no dead letter") for source in found.refused if source not in times]
    for letter in letters:
        if letter.source is None:
            violations.append(Violation("unreadable", None, f"dead letter {letter.partition}-{letter.offset}"))
        elif letter.source not in found.refused and letter.source not in found.possible:
            violations.append(Violation("foreign", letter.source, "a dead letter of what is none"))
        elif topic is not None and letter.topic != topic:
            violations.append(Violation("misattributed", letter.source, f"a dead letter of topic {letter.topic!r}"))
    violations += [
        Violation("doubled", source, f"{number} dead letters")
        for source, number in times.items()
        if source is not None and number > 1
    ]
    return violations


def _one_output_per_sample(found: Expected, events: Sequence[Event]) -> list[Violation]:
    by_source: dict[Source, list[Event]] = {}
    for event in events:
        by_source.setdefault(event.source, []).append(event)
    violations = []
    for source, wanted in found.events.items():
        have = by_source.get(source, [])
        if len(have) < len(wanted):
            words = "no output" if not have else f"{len(have)} outputs of {len(wanted)}"
            violations.append(Violation("missing", source, words))
        elif len(have) > len(wanted):
            violations.append(Violation("doubled", source, f"{len(have)} outputs of {len(wanted)}"))
    for source, have in by_source.items():
        if source not in found.events:
            violations.append(Violation("foreign", source, f"{len(have)} outputs of what is no committed sample"))
            continue
        wanted = found.events[source]
        for event in have:
            if event.what not in wanted or event.output.key != event.what.stream.encode():
                expected = wanted[0] if len(wanted) == 1 else wanted
                words = f"expected {expected}, received {event.what} under key {event.output.key!r}"
                violations.append(Violation("misattributed", source, words))
        if 1 < len(wanted) == len(have) and len({event.what for event in have} & set(wanted)) < len(wanted):
            violations.append(Violation("doubled", source, f"not each of its {len(wanted)} outputs once"))
    return violations


def _stream_order(found: Expected, events: Sequence[Event]) -> list[Violation]:
    """In the output topic a stream's events follow one another as its samples did, all in one partition."""
    latest: dict[tuple[int, bytes], tuple[Event, tuple[Source, int]]] = {}
    violations = []
    for event in sorted(events, key=lambda event: (event.output.partition, event.output.offset)):
        source, output = event.source, event.output
        wanted = found.events.get(source, [])
        rank = source, wanted.index(event.what) if event.what in wanted else 0
        before = latest.get((source[0], output.key))
        if before is not None and before[0].output.partition != output.partition:
            words = f"in output partition {output.partition}, others of its stream in {before[0].output.partition}"
            violations.append(Violation("split", source, words))
        elif before is not None and before[1] > rank:
            violations.append(Violation("reordered", source, f"published after {before[0].source}"))
        latest[source[0], output.key] = event, rank
    return violations


def _times(found: Expected, events: Sequence[Event]) -> list[Violation]:
    violations = []
    for event in events:
        wanted = found.times.get(event.source)
        if wanted is not None and wanted >= 0 and event.members.get("timestamp") != wanted:
            words = f"expected timestamp {wanted}, received {event.members.get('timestamp')}"
            violations.append(Violation("misdated", event.source, words))
    return violations


def _same_bytes(events: Sequence[Event], reference: Iterable[Output]) -> list[Violation]:
    wanted: dict[tuple[Source, Place | End], bytes] = {}
    by_source: dict[Source, list[bytes]] = {}
    for output in reference:
        event = _event(output)
        assert event is not None, f"the reference is unreadable: {output.value[:200]!r}"
        wanted[event.source, event.what] = output.value
        by_source.setdefault(event.source, []).append(output.value)
    violations = []
    for event in events:
        values = by_source.get(event.source)
        if values is not None and event.output.value != wanted.get((event.source, event.what)):
            words = f"expected {' or '.join(map(repr, values))}, received {event.output.value!r}"
            violations.append(Violation("altered", event.source, words))
    return violations


def _same_numbers(found: Expected, events: Sequence[Event], numbers: Numbers) -> list[Violation]:
    """Probabilities that are in their place; what is not is named already, and of some nobody knows the samples."""
    placed, have, wanted = [], [], []
    for event in events:
        if not isinstance(event.what, Place) or event.what not in found.events.get(event.source, []):
            continue
        if event.what.timestep < len(numbers.by_sequence.get(event.what.sequence, ())):
            several = event.members.get("probabilities")
            given = list(several.values()) if several else [event.members.get("probability")]
            expected = numbers.by_sequence[event.what.sequence][event.what.timestep]
            if len(given) != len(expected):
                return [Violation("inexact", event.source, f"{len(given)} probabilities, expected {len(expected)}")]
            placed.append(event)
            have.append([np.nan if number is None else number for number in given])
            wanted.append(expected)
    if not placed:
        return []
    difference = np.abs(np.array(have, np.float64) - np.array(wanted, np.float64)).max(axis=1)
    unknown = np.isnan(np.array(have, np.float64)).any(axis=1)
    agreed = unknown & ~np.isfinite(np.array(wanted)).all(axis=1)  # null is what a NaN or an infinity is written as
    return [
        Violation(
            "inexact",
            placed[i].source,
            f"{placed[i].what}: expected {wanted[i].tolist()} of Keras, received {have[i]}, "
            f"{difference[i]:.2g} apart, {numbers.tolerance:.2g} allowed",
        )
        for i in np.flatnonzero(~(difference <= numbers.tolerance) & ~agreed).tolist()
    ]
