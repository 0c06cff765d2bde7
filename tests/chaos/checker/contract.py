"""docs/records.md read aloud: what each record of the input means, and what must become of it.

One record at a time, one dictionary of streams for each partition; nothing of the worker is used. What a stream's
sample is (which sequence, which timestep) follows from the records before it alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from confluent_kafka import Message

from tests.chaos.checker.records import Input, Rules

EVICTED_SHARE = 16
MAX_STREAM_ID_BYTES = 256
LARGEST = float.fromhex("0x1.fffffefffffffp+127")  # what is larger is infinite as float32


@dataclass(frozen=True)
class Place:
    """Where a sample stands in its stream."""

    stream: str
    sequence: str
    timestep: int


@dataclass(frozen=True)
class End:
    """The end of a sequence, as a closing event tells it."""

    stream: str
    sequence: str
    reason: str
    length: int


@dataclass
class Open:
    """An open sequence: its first sample's record and place in it, its length, when and where it was last heard of."""

    start: int
    start_sample: int
    length: int
    time_ms: int
    offset: int


class Partition:
    """What one partition's records make of its streams; feed them in offset order.

    Attributes:
        live: the open sequence of each stream, the one that was heard of last at the end.
        time_ms: the partition's time, -1 before the first.
    """

    def __init__(self, number: int, rules: Rules) -> None:
        self.number = number
        self.rules = rules
        self.live: dict[bytes, Open] = {}
        self.time_ms = -1
        self._anew = rules.anew.get(number, math.inf)

    def feed(self, record: Input) -> list[Place | End]:
        """What a record that was not refused must become: the place of each sample, and the sequences it ends."""
        events: list[Place | End] = []
        self.reach(record.offset)
        stream = record.stream
        if record.count and stream not in self.live and len(self.live) == self.rules.capacity:
            for _ in range(math.ceil(self.rules.capacity / EVICTED_SHARE)):
                events.append(self._close(next(iter(self.live)), "evicted"))
        self.time_ms = max(self.time_ms, -1 if record.time_ms is None else record.time_ms)
        if self.rules.idle_timeout_ms is not None:
            limit = self.time_ms - self.rules.idle_timeout_ms
            while self.live and next(iter(self.live.values())).time_ms < limit:
                events.append(self._close(next(iter(self.live)), "idle_timeout"))
        if not record.count:
            if record.is_end and stream in self.live:
                events.append(self._close(stream, record.end_reason))
            return events
        if record.is_start and stream in self.live:
            events.append(self._close(stream, "start_of_sequence"))
        for within in range(record.count):
            sequence = self.live.pop(stream, None) or Open(record.offset, within, 0, 0, 0)
            events.append(Place(stream.decode(), self.name(sequence), sequence.length))
            sequence.length += 1
            sequence.time_ms, sequence.offset = self.time_ms, record.offset
            self.live[stream] = sequence
            if record.is_end and within == record.count - 1:
                events.append(self._close(stream, record.end_reason))
            elif sequence.length == self.rules.sequence_length:
                events.append(self._close(stream, "sequence_length"))
        return events

    def reach(self, offset: int) -> None:
        """All records below an offset were fed; where the operator let the streams begin anew, they do."""
        if offset >= self._anew:
            self.live.clear()
            self.time_ms, self._anew = -1, math.inf

    def name(self, sequence: Open) -> str:
        """What events call a sequence."""
        suffix = f".{sequence.start_sample}" if sequence.start_sample else ""
        return f"{self.number}-{sequence.start}{suffix}"

    def _close(self, stream: bytes, reason: str) -> End:
        sequence = self.live.pop(stream)
        return End(stream.decode(), self.name(sequence), reason, sequence.length)


def read_input(message: Message, features: Sequence[str], rules: Rules) -> Input:
    """What a record of the input topic means, where samples are JSON and the key is the stream ID."""
    headers = dict(message.headers() or [])  # of several with one name the last counts
    starts, ends = _flag(headers, "start-of-sequence"), _flag(headers, "end-of-sequence")
    key, value = message.key() or b"", message.value()
    stamp = message.timestamp()
    known: dict[str, Any] = {"time_ms": stamp[1] if stamp[0] else -1}
    place = message.partition(), message.offset(), key
    refused = Input(*place, is_sample=False, refused=True, **known)
    if value is None or (ends and not value):
        samples: list[list[float]] = []
        own_start, own_end, reason = False, True, "end_header" if ends else "tombstone"
    else:
        try:
            if len(value) > rules.max_record_bytes:
                return refused
            samples, own_start, own_end = _samples(value, features, rules)
        except (ValueError, TypeError, KeyError, RecursionError):
            return refused
        reason = "end_of_sequence" if own_end else "end_header"
    if not 0 < len(key) <= MAX_STREAM_ID_BYTES or not _is_utf8(key):
        return refused
    return Input(
        *place,
        is_sample=bool(samples),
        is_end=ends or own_end,
        is_start=starts or own_start,
        samples=tuple(map(tuple, samples)),
        end_reason=reason if ends or own_end else "",
        refused=False,
        **known,
    )


def _samples(value: bytes, features: Sequence[str], rules: Rules) -> tuple[list[list[float]], bool, bool]:
    """Samples and markers of a JSON value; raises for what is none."""
    member = json.loads(value, parse_constant=_no_constant)
    if not isinstance(member, dict):
        raise TypeError("not an object")
    flags = [member.get(name) for name in ("start_of_sequence", "end_of_sequence")]
    if not all(flag is None or isinstance(flag, bool) for flag in flags):
        raise TypeError("a marker that is not true or false")
    if not isinstance(member.get("timestep"), int | None) or isinstance(member.get("timestep"), bool):
        raise TypeError("a timestep that is no whole number")
    start, end = bool(flags[0]), bool(flags[1])
    if member.get("samples") is not None:
        if member.get("features") is not None or not (member["samples"] or end):
            raise ValueError("ambiguous, or empty")
        samples = member["samples"]
    elif member.get("features") is not None:
        samples = [member["features"]]
    elif end and all(member.get(name) is None for name in features):
        samples = []
    else:
        samples = [[member[name] for name in features]]
    if not isinstance(samples, list) or len(samples) > rules.max_samples_per_record:
        raise ValueError("too many samples, or no list of them")
    for sample in samples:
        if not isinstance(sample, list) or len(sample) != len(features):
            raise ValueError("another number of features")
        if any(isinstance(x, bool) or not isinstance(x, int | float) or abs(x) > LARGEST for x in sample):
            raise ValueError("not a finite float32 number")
    return samples, start, end


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _flag(headers: dict[str, bytes | None], name: str) -> bool:
    return name in headers and (headers[name] or b"").lower() not in (b"false", b"0")


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
