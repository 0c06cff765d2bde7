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
    state: np.ndarray = field(default_factory=LeakySum.initial_state[None].copy)


@dataclass
class Reference:
    """Feed records in log order; `events` is what a consumer must see, `refused` the dead letters' offsets."""

    model: Any
    partition: int = 0
    sequence_length: int | None = None
    idle_ms: int | None = None
    capacity: int = 10**9
    digest: str = "0123456789ab"
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
        samples, start, end, reason = parsed
        start = start or "start-of-sequence" in names
        if "end-of-sequence" in names and reason != "end_of_sequence":
            end, reason = True, "end_header"
        assert key is not None
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
        for within, x in enumerate(samples):
            stream = self.streams.setdefault(key, Stream(offset, within, self.time, offset))
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
        """(samples, start, end, reason), or why the record is refused."""
        bad_value = None
        parsed: Any = ([], False, True, "tombstone")
        if value is not None and not (end_header and value == b""):
            try:
                member = json.loads(value)
                samples = member["samples"] if "samples" in member else [member["features"]]
                largest = float(np.finfo(np.float32).max)
                if not all(
                    len(x) == self.model.features and all(abs(number) <= largest for number in x) for x in samples
                ):
                    bad_value = "shape or range"
                end = bool(member.get("end_of_sequence"))
                parsed = (samples, bool(member.get("start_of_sequence")), end, "end_of_sequence" if end else "")
            except (ValueError, TypeError, KeyError):
                bad_value = "not a sample"
        if bad_value:
            return bad_value
        if not key or len(key) > 256:
            return "key"
        return parsed
