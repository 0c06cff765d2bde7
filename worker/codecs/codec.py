"""What all codecs share: values of a poll in, arrays out, in bulk where the poll allows it.

A codec takes the values of a poll and returns arrays; whatever it cannot read it returns as `BadRecord`, by
position. The usual poll holds one plain sample a record and is decoded in bulk; as soon as one value is anything
else, each is looked at alone. Both roads give the same arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.errors import BadRecord

Missing = Literal["refuse", "zero", "last", "nan"]
MOST_TIMESTEPS = 1 << 62


@dataclass(slots=True)
class Decoded:
    """The samples of a poll.

    Attributes:
        inputs: `(samples, features)` float32, in record order; finite, but for missing numbers that may stay NaN.
        counts: `(records,)` int64, samples of each record; 0 for tombstones and bad ones.
        starts: records whose first sample begins a sequence by their own word.
        ends: records after which their stream's sequence is over by their own word.
        bad: what could not be read, by record.
        stream_ids: taken from the values, where a codec was told to; else None.
        times: likewise, event times in ms.
        timesteps: likewise, the producer's own count.
    """

    inputs: NDArray[np.float32]
    counts: NDArray[np.int64]
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    bad: dict[int, BadRecord] = field(default_factory=dict)
    stream_ids: list[bytes | None] | None = None
    times: list[int | None] | None = None
    timesteps: list[int | None] | None = None


@dataclass(slots=True)
class Sample:
    """One decoded value: `inputs` is `(samples, features)` float32, perhaps none at all."""

    inputs: NDArray[np.float32]
    start: bool = False
    end: bool = False
    stream_id: bytes | None = None
    time: int | None = None
    timestep: int | None = None


class Codec(ABC):
    """Decode the values of a poll; tombstones, limits and missing numbers are the same for every wire format.

    Args:
        features: of a sample.
        max_bytes: of a value.
        max_samples: of a chunk.
        missing: what becomes of a missing number, which codecs hand over as NaN (`last` is left to the engine).
        timesteps: hand over the producer's own count.
    """

    def __init__(
        self, features: int, max_bytes: int, max_samples: int, missing: Missing = "refuse", timesteps: bool = False
    ) -> None:
        self.features = features
        self.max_bytes = max_bytes
        self.max_samples = max_samples
        self.missing = missing
        self.timesteps = timesteps

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a poll's values; never raises for what they hold."""
        if values and None not in values:
            decoded = self.bulk(values)  # type: ignore[arg-type]
            if decoded is not None:
                decoded.inputs = self._filled(decoded.inputs)
                if not self._unusable(decoded.inputs).any():
                    return decoded
        return self._one_by_one(values)

    @abstractmethod
    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, or None when any needs to be looked at alone. None of them is a tombstone."""

    @abstractmethod
    def one(self, value: bytes) -> Sample:
        """One value of at most `max_bytes`.

        Raises:
            BadRecord: it is not a sample.
        """

    def _one_by_one(self, values: Sequence[bytes | None]) -> Decoded:
        pieces: list[NDArray[np.float32]] = []
        decoded = Decoded(np.empty((0, self.features), np.float32), np.zeros(len(values), np.int64))
        ids: list[bytes | None] = [None] * len(values)
        times: list[int | None] = [None] * len(values)
        timesteps: list[int | None] = [None] * len(values)
        for position, value in enumerate(values):
            if value is None:
                continue
            try:
                sample = self._checked(value)
            except BadRecord as fault:
                decoded.bad[position] = fault
                continue
            ids[position], times[position], timesteps[position] = sample.stream_id, sample.time, sample.timestep
            decoded.counts[position] = len(sample.inputs)
            pieces.append(sample.inputs)
            if sample.start:
                decoded.starts.append(position)
            if sample.end:
                decoded.ends.append(position)
        if pieces:
            decoded.inputs = np.concatenate(pieces)
        if any(stream_id is not None for stream_id in ids):
            decoded.stream_ids = ids
        if any(time is not None for time in times):
            decoded.times = times
        if self.timesteps:
            decoded.timesteps = timesteps
        return decoded

    def _checked(self, value: bytes) -> Sample:
        if len(value) > self.max_bytes:
            raise BadRecord("oversized_value", f"expected at most {self.max_bytes} bytes, received {len(value)}")
        sample = self.one(value)
        if len(sample.inputs) > self.max_samples:
            raise BadRecord(
                "oversized_chunk", f"expected at most {self.max_samples} samples, received {len(sample.inputs)}"
            )
        sample.inputs = self._filled(sample.inputs)
        unusable = self._unusable(sample.inputs)
        if unusable.any():
            row, column = np.argwhere(unusable)[0]
            raise BadRecord("not_finite", f"sample {row}, feature {column}: not a finite float32 number")
        return sample

    def _filled(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(np.isnan(inputs), np.float32(0), inputs) if self.missing == "zero" else inputs

    def _unusable(self, inputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.isinf(inputs) if self.missing in ("last", "nan") else ~np.isfinite(inputs)


def timestep_of(found: Any) -> int:
    """A producer's own count, from 0 on.

    Raises:
        BadRecord: it is none.
    """
    if type(found) is not int or not 0 <= found < MOST_TIMESTEPS:
        raise BadRecord("wrong_type", "expected a whole number from 0 to 2^62 - 1 as the timestep")
    return found
