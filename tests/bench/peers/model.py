"""What the Python peers do with a sample: the LSTM compiled by Numba, from the file that `weights.py` writes.

Imports nothing of cellstream: it runs in the peers' own environments.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numba
import numpy as np
import orjson

PLACE = struct.Struct("<qqq")  # of a stream's state: its timestep, partition and offset of its first sample


class Lstm:
    """Layers of LSTM, each with a LeakyReLU behind it, and one sigmoid; a state is one float32 array.

    Args:
        path: see `weights.py`.
    """

    def __init__(self, path: str | Path) -> None:
        flat = Path(path).read_bytes()
        self.features, layers, slope = struct.unpack_from("<iif", flat)
        self._slope = np.float32(slope)
        at, inputs, units = 12, self.features, []
        weights = []
        for _ in range(layers):
            (width,) = struct.unpack_from("<i", flat, at)
            count = (inputs + width + 1) * 4 * width
            weights.append(np.frombuffer(flat, "<f4", count, at + 4))
            at, inputs = at + 4 + 4 * count, width
            units.append(width)
        weights.append(np.frombuffer(flat, "<f4", inputs + 1, at))
        self._weights = np.concatenate(weights)
        self._units = np.array(units, np.int64)
        self.state_size = 2 * sum(units)
        self._x, self._z = np.empty(max(self.features, *units), np.float32), np.empty(4 * max(units), np.float32)
        self.step([0.0] * self.features, np.zeros(self.state_size, np.float32))  # compiles it

    def step(self, features: list[float], state: np.ndarray[Any, Any]) -> float:
        """The probability after one more sample; `state` is changed in place."""
        if len(features) != self.features:
            raise ValueError(f"{len(features)} features, expected {self.features}")
        self._x[: self.features] = features
        return float(_step(self._weights, self._units, self._slope, self.features, self._x, self._z, state))


class Answers:
    """Samples and states of streams to events and states, text to bytes.

    Args:
        weights: the model's file.
        digest: what events name the model.
    """

    def __init__(self, weights: str | Path, digest: str) -> None:
        self._model = Lstm(weights)
        self._digest = digest

    def __call__(
        self, stream: str, value: bytes | str, former: bytes | None, partition: int, offset: int, timestamp: int
    ) -> tuple[bytes, bytes]:
        """The event as cellstream writes it, and the stream's next state; `former` None begins a sequence."""
        if former is None:
            first, timestep, state = (partition, offset), 0, np.zeros(self._model.state_size, np.float32)
        else:
            timestep, *first = PLACE.unpack_from(former)
            state = np.frombuffer(former, np.float32, offset=PLACE.size).copy()
        probability = self._model.step(orjson.loads(value)["features"], state)
        event = {
            "stream_id": stream,
            "sequence": f"{first[0]}-{first[1]}",
            "timestep": timestep,
            "probability": probability,
            "timestamp": timestamp,
            "source": [partition, offset],
            "model": self._digest,
        }
        return orjson.dumps(event), PLACE.pack(timestep + 1, *first) + state.tobytes()


@numba.njit(fastmath=True, error_model="numpy")
def _tanh(x):  # type: ignore[no-untyped-def]
    """The rational function that Eigen and XLA use: no branches, so that a loop of it becomes vector instructions."""
    limit = np.float32(7.90531110763549805)
    x = max(-limit, min(limit, x))
    s = x * x
    p = np.float32(-2.76076847742355e-16) * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06) * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@numba.njit(fastmath=True, error_model="numpy")
def _step(weights, units, slope, inputs, x, z, state):  # type: ignore[no-untyped-def]
    """Gates in Keras' order i, f, c, o; `x` and `z` are room to work in."""
    half, one = np.float32(0.5), np.float32(1)
    at = begin = 0
    for width in units:
        gates = 4 * width
        z[:gates] = weights[at + (inputs + width) * gates : at + (inputs + width + 1) * gates]
        for i in range(inputs + width):
            factor = x[i] if i < inputs else state[begin + i - inputs]
            row = weights[at + i * gates : at + (i + 1) * gates]
            for j in range(gates):
                z[j] += factor * row[j]
        at += (inputs + width + 1) * gates
        for j in range(2 * width):  # sigmoid(x) = (1 + tanh(x / 2)) / 2
            z[j] = half + half * _tanh(half * z[j])
        for j in range(2 * width, 3 * width):
            z[j] = _tanh(z[j])
        for j in range(3 * width, gates):
            z[j] = half + half * _tanh(half * z[j])
        hidden, cell = state[begin : begin + width], state[begin + width : begin + 2 * width]
        for j in range(width):
            cell[j] = z[width + j] * cell[j] + z[j] * z[2 * width + j]
        for j in range(width):
            hidden[j] = z[3 * width + j] * _tanh(cell[j])
        for j in range(width):
            x[j] = hidden[j] if hidden[j] >= 0 else slope * hidden[j]
        begin, inputs = begin + 2 * width, width
    total = weights[at + inputs]
    for i in range(inputs):
        total += x[i] * weights[at + i]
    return one / (one + math.exp(-total))
