"""The record contract, read aloud: one record at a time, one dictionary per stream, nothing vectorised.

What the engine must publish for a log, written from DESIGN.md and independently of the worker's code.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class LeakySum:
    """A tiny recurrent model whose arithmetic is elementwise float32, so that no batching can change a bit."""

    state_size = 2
    outputs = 1
    call_cost = 100.0
    initial_state = np.array([0.25, -0.5], np.float32)

    def __init__(self, features: int, buckets: list[tuple[int, int]]) -> None:
        self.features = features
        self.buckets = buckets

    def step(self, x: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = np.zeros(len(x), np.float32)
        for i in range(self.features):
            total = total + x[:, i] * np.float32(i + 1)
        h = states[:, 0] * np.float32(0.5) + total
        c = states[:, 1] * np.float32(0.75) - total * np.float32(0.125) + h * np.float32(0.25)
        return (np.float32(0.5) + c / (np.float32(2) * (np.float32(1) + np.abs(c))))[:, None], np.stack([h, c], axis=1)

    def run_block(self, inputs, mask, reset, states):
        assert inputs.shape[:2] in self.buckets
        outputs = np.full((*mask.shape, 1), np.nan, np.float32)
        for t in range(len(mask)):
            before = np.where(reset[t][:, None], self.initial_state, states)
            out, after = self.step(inputs[t], before)
            outputs[t] = np.where(mask[t][:, None], out, np.nan)
            states = np.where(mask[t][:, None], after, states)
        return outputs, states


@dataclass
class Stream:
    start: int
    start_sample: int
    last_time: int
    last_offset: int
    length: int = 0
    expected: int | None = None
    seen: set[int] = field(default_factory=set)
    values: list[float] = field(default_factory=lambda: [0.0, 0.0])
    state: np.ndarray = field(default_factory=LeakySum.initial_state[None].copy)


@dataclass
class Reference:
    """Feed records in log order; `events` is what a consumer must see, `refused` the dead letters' offsets."""

    model: Any
    partition: int = 0
    sequence_length: int | None = None
    idle_ms: int | None = None
    capacity: int = 10**9
    order: dict[str, str] | None = None
    missing: str = "refuse"
    digest: str = "0123456789ab"
    disorder: list[str] = field(default_factory=list)
    streams: dict[bytes, Stream] = field(default_factory=dict)
    events: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    time: int = -1

    def feed(self, key: bytes | None, value: Any, offset: int, time: int, headers: Any = None) -> None:
        names = {name for name, _ in headers or []}
        parsed = self._parse(key, value, "end-of-sequence" in names)
        if isinstance(parsed, str):
            self.refused.append((offset, parsed))
            return
        samples, start, end, reason, timestep = parsed
        start = start or "start-of-sequence" in names
        if "end-of-sequence" in names and reason != "end_of_sequence":
            end, reason = True, "end_header"
        assert key is not None
        action, kind = (None, "") if start or not samples else self._judged(key, timestep, offset, time)
        if action in ("dead_letter", "drop"):
            return
        if samples and key not in self.streams and len(self.streams) == self.capacity:
            for victim in sorted(self.streams, key=lambda k: self.streams[k].last_offset)[
                : math.ceil(self.capacity / 16)
            ]:
                self._close(victim, "evicted", offset, time)
        self._advance_time(time, offset)
        moment = self.time if time < 0 else time
        if not samples:
            if key in self.streams:
                self._close(key, reason, offset, time)
            return
        if start and key in self.streams:
            self._close(key, "start_of_sequence", offset, time)
        if action == "reset":
            self._close(key, kind, offset, time)
        for within, sample in enumerate(samples):
            stream = self.streams.setdefault(key, Stream(offset, within, self.time, offset))
            self._see(stream, None if timestep is None else timestep + within)
            x = [last if y is None else y for last, y in zip(stream.values, sample, strict=True)]
            stream.values = x
            out, stream.state = self.model.step(np.array([x], np.float32), stream.state)
            stream.last_time, stream.last_offset = self.time, offset
            self.events.append(
                (
                    key,
                    self._event(key, stream, offset)
                    | {"timestep": stream.length, "probability": out[0, 0], "timestamp": moment},
                )
            )
            stream.length += 1
            if end and within == len(samples) - 1:
                self._close(key, reason, offset, time)
            elif stream.length == self.sequence_length:
                self._close(key, "sequence_length", offset, time)

    def _kind(self, key: bytes, timestep: int | None, time: int) -> str | None:
        """What is wrong with a record's place in its stream's count."""
        stream = self.streams.get(key)
        if self.order is None or stream is None or timestep is None or stream.expected in (None, timestep):
            return None
        if self.idle_ms is not None and max(self.time, time) - stream.last_time > self.idle_ms:
            return None  # the silence ended the sequence
        if timestep > stream.expected:
            return "gap"
        return "duplicate" if timestep in stream.seen and stream.expected - timestep <= 62 else "late"

    def _judged(self, key: bytes, timestep: int | None, offset: int, time: int) -> tuple[str | None, str]:
        """What becomes of a record, and why."""
        kind = self._kind(key, timestep, time)
        if kind is None or self.order is None:
            return None, ""
        self.disorder.append(kind)
        if self.order[kind] == "dead_letter":
            self.refused.append((offset, kind))
        return self.order[kind], kind

    def _see(self, stream: Stream, timestep: int | None) -> None:
        timestep = stream.expected if timestep is None else timestep
        if timestep is not None:
            stream.seen.add(timestep)
            stream.expected = max(stream.expected or 0, timestep + 1)

    def _advance_time(self, time: int, offset: int) -> None:
        self.time = max(self.time, time)
        self._expire(offset, time)

    def _expire(self, offset: int, time: int) -> None:
        if self.idle_ms is None:
            return
        for key in list(self.streams):
            if self.time - self.streams[key].last_time > self.idle_ms:
                self._close(key, "idle_timeout", offset, time)

    def _close(self, key: bytes, reason: str, offset: int, time: int) -> None:
        stream = self.streams.pop(key)
        if stream.length:
            closing = {
                "end_of_sequence": True,
                "reason": reason,
                "length": stream.length,
                "timestamp": self.time if time < 0 else time,
            }
            self.events.append((key, self._event(key, stream, offset) | closing))

    def _event(self, key: bytes, stream: Stream, offset: int) -> dict[str, Any]:
        suffix = f".{stream.start_sample}" if stream.start_sample else ""
        return {
            "stream_id": key.decode(),
            "sequence": f"{self.partition}-{stream.start}{suffix}",
            "source": [self.partition, offset],
            "model": self.digest,
        }

    def _parse(self, key: bytes | None, value: Any, end_header: bool) -> Any:
        """(samples, start, end, reason, timestep), or why the record is refused."""
        bad_value = None
        parsed: Any = ([], False, True, "tombstone", None)
        if value is not None and not (end_header and value == b""):
            try:
                member = json.loads(value)
                samples = member["samples"] if "samples" in member else [member["features"]]
                largest = float(np.finfo(np.float32).max)
                absent = [None] if self.missing == "last" else []
                if not all(
                    len(x) == self.model.features and all(n in absent or abs(n) <= largest for n in x) for x in samples
                ):
                    bad_value = "shape or range"
                timestep = member.get("timestep")
                if self.order is not None and timestep is not None and timestep < 0:
                    bad_value = "timestep"
                end = bool(member.get("end_of_sequence"))
                parsed = (
                    samples,
                    bool(member.get("start_of_sequence")),
                    end,
                    "end_of_sequence" if end else "",
                    timestep,
                )
            except (ValueError, TypeError, KeyError):
                bad_value = "not a sample"
        if bad_value:
            return bad_value
        if not key or len(key) > 256:
            return "key"
        return parsed
