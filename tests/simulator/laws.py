"""What must hold at the end of a schedule, held against a sequential reading of the input logs.

The laws are those at the end of RELIABILITY.md; the reference is `tests.laws.reference`, which shares no code with
the worker.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from tests.laws.reference import LeakySum, Reference
from tests.simulator.log import Entry, Log
from tests.simulator.settings import BUCKETS, CAPACITY, DIGEST, FEATURES, IDLE_MS
from worker.checkpoint import Snapshot
from worker.registry.client import HEADER_BYTES

SCHEMA_REASONS = (b"unknown_schema", b"too_many_schemas")

Event = tuple[bytes, dict[str, Any]]
Described = dict[bytes, Any]


@dataclass
class Expected:
    """What one input partition must come to.

    Attributes:
        events: with their source's offset.
        refused: offsets of dead letters.
        states: what a checkpoint at an offset must hold.
    """

    events: list[tuple[int, Event]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    states: dict[int, Described] = field(default_factory=dict)


def expect(
    partition: int, log: Log, checkpoints: Iterable[int], origin: int, unread: Mapping[int, int] | None = None
) -> Expected:
    """Read a log from its origin on, one record after the other.

    Args:
        partition: of the log.
        log: all of it, deleted records too.
        checkpoints: offsets at which a state is wanted.
        origin: where the group began.
        unread: where values name schemas, records that were refused because of theirs, offset -> how often; which
            those are is for the registry to say, and what follows from it for the worker.
    """
    model = LeakySum(FEATURES, BUCKETS)
    reference = Reference(model, partition, None, IDLE_MS, CAPACITY, DIGEST[:12])
    wanted, expected = sorted(set(checkpoints)), Expected()
    for offset, entry in [*log.records(), (log.end + 1, Entry(True))]:
        while wanted and wanted[0] <= offset:
            expected.states[wanted.pop(0)] = _described(reference)
        if entry.is_marker or offset < origin:
            continue
        before = len(reference.events)
        value = entry.value
        if unread is not None and value:
            value = b"not read" if offset in unread else value[HEADER_BYTES:]
        reference.feed(entry.key, value, offset, entry.time, entry.headers)
        expected.events += [(offset, _rounded(*event)) for event in reference.events[before:]]
    expected.states |= {offset: _described(reference) for offset in wanted}
    expected.refused = [offset for offset, _ in reference.refused]
    return expected


def check_outputs(partition: int, expected: Expected, committed: int, outputs: list[Log]) -> list[str]:
    """One event for each that the committed records cause, in the order of their streams and bit for bit."""
    wrong = []
    wanted = [event for offset, event in expected.events if offset < committed]
    for number, log in enumerate(outputs):
        here = [(key, event) for key, event in wanted if crc32(key) % len(outputs) == number]
        found = [event for event in map(_parsed, log.records()) if event[1]["source"][0] == partition]
        offsets = [event["source"][1] for _, event in found]
        if _by_stream(found) != _by_stream(here):
            wrong.append(f"outputs of partition {partition} in {number}: {_difference(here, found)}")
        elif offsets != sorted(offsets):
            wrong.append(f"outputs of partition {partition} in {number}: not in the order of their records: {offsets}")
    return wrong


def check_dead_letters(partition: int, expected: Expected, committed: int, letters: list[Log]) -> list[str]:
    """One dead letter for each refused record below the committed offset."""
    wanted = [offset for offset in expected.refused if offset < committed]
    found = []
    for log in letters:
        for _, entry in log.records():
            headers = dict(entry.headers or [])
            if int(headers["__streams.errors.partition"] or -1) == partition:
                found.append(int(headers["__streams.errors.offset"] or -1))
    return [] if sorted(found) == wanted else [f"dead letters of partition {partition}: {wanted}, found {found}"]


def unread(partition: int, letters: Log) -> dict[int, int]:
    """Offsets of the records that were refused because of their schemas; how often each."""
    found: Counter[int] = Counter()
    for _, entry in letters.records():
        headers = dict(entry.headers or [])
        if (
            headers["cellstream.reason"] in SCHEMA_REASONS
            and int(headers["__streams.errors.partition"] or -1) == partition
        ):
            found[int(headers["__streams.errors.offset"] or -1)] += 1
    return found


def check_checkpoint(expected: Expected, snapshot: Snapshot) -> list[str]:
    """A checkpoint is the reference state at its offset."""
    columns = zip(
        snapshot.stream_ids,
        snapshot.timesteps.tolist(),
        snapshot.starts.tolist(),
        snapshot.start_samples.tolist(),
        snapshot.times.tolist(),
        snapshot.offsets.tolist(),
        snapshot.states,
        strict=True,
    )
    found: Described = {key: (*numbers, state.tobytes()) for key, *numbers, state in columns}
    found[b""] = snapshot.stream_time
    wanted = expected.states[snapshot.next_offset]
    if found == wanted:
        return []
    differ = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    where = f"checkpoint of partition {snapshot.partition} at {snapshot.next_offset}"
    return [f"{where}: {differ[0]!r} is {found.get(differ[0])}, expected {wanted.get(differ[0])}"]


def _described(reference: Reference) -> Described:
    streams = {
        key: (s.length, s.start, s.start_sample, s.last_time, s.last_offset, s.state.astype(np.float32).tobytes())
        for key, s in reference.streams.items()
    }
    return {b"": reference.time, **streams}


def _rounded(key: bytes, event: dict[str, Any]) -> Event:
    probability = event.get("probability")
    return key, event if probability is None else event | {"probability": float(str(np.float32(probability)))}


def _parsed(found: tuple[int, Entry]) -> Event:
    key, value = found[1].key, found[1].value
    assert key is not None
    assert value is not None
    return _rounded(key, json.loads(value))


def _by_stream(events: list[Event]) -> dict[bytes, list[Event]]:
    """Streams that one record ends at once end in any order."""
    streams: dict[bytes, list[Event]] = {}
    for key, event in events:
        streams.setdefault(key, []).append((key, event))
    return streams


def _difference(wanted: list[Event], found: list[Event]) -> str:
    """The first thing that is wrong, in a word and with its coordinates."""
    sources = lambda events: [(key, e["source"][1], e.get("timestep", e.get("reason"))) for key, e in events]  # noqa: E731
    expected, actual = sources(wanted), sources(found)
    for coordinates in expected:
        if coordinates not in actual:
            return f"missing {coordinates}"
    for coordinates in actual:
        if coordinates not in expected:
            return f"foreign {coordinates}"
        if actual.count(coordinates) > expected.count(coordinates):
            return f"doubled {coordinates}"
    streams = _by_stream(wanted)
    for key, event in found:
        if (key, event) != streams[key].pop(0):
            return f"altered or reordered: {event}"
    return "equal"
