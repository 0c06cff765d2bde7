"""What writes events: the base of all encoders, and what they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from worker.state.sequences import Closing


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model said to samples of one partition; an event each, or an event for each record.

    Attributes:
        partition: of the input topic.
        prefixes: of the events' sequences, see `Encoder.prefix`.
        timesteps: `(events,)` int64, of the first sample of each.
        outputs: `(samples, classes)` float32, contiguous.
        times: `(events,)` ms.
        offsets: `(events,)`.
        counts: `(events,)` int64, samples of each event, written as lists; None for one each, written as numbers.
    """

    partition: int
    prefixes: Sequence[bytes]
    timesteps: NDArray[np.int64]
    outputs: NDArray[np.float32]
    times: Sequence[int]
    offsets: Sequence[int]
    counts: NDArray[np.int64] | None = None

    def bounds(self) -> list[tuple[int, int]]:
        """Each event's samples in `outputs`."""
        stops = range(1, len(self.prefixes) + 1) if self.counts is None else np.cumsum(self.counts).tolist()
        return list(pairwise([0, *stops]))


class Encoder(ABC):
    """Write the events of DESIGN.md's record contract.

    Args:
        decisions: names of what the artifact's rule can decide; none where it has no rule.
    """

    def __init__(self, decisions: Sequence[str]) -> None:
        self.decisions = decisions

    @property
    def decides(self) -> bool:
        """Whether the model's answers have a column for decisions."""
        return len(self.decisions) > 0

    @abstractmethod
    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """What all events of a sequence have alike, and other sequences not; `stream_id` is valid UTF-8."""

    @abstractmethod
    def encode(self, answers: Answers) -> list[bytes]:
        """One event for each prefix, of which there is at least one."""

    @abstractmethod
    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it.

        Args:
            event: as `encode` wrote it.
            number: of the decision, from 0.
            timestep: of the sample that decided, where the event has several.
        """

    @abstractmethod
    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
