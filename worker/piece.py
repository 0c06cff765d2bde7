"""A run of one partition's records on its way through the engine, and what is known of it by then."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.reading import Reading
from worker.state.partition import PartitionState
from worker.state.sequences import Closing, Events, Placement


@dataclass(slots=True)
class Piece:
    """A run of one partition's records that is handled at once; `stop` is where the next one begins."""

    reading: Reading
    state: PartitionState
    stop: int
    events: Events
    inputs: NDArray[np.float32]
    closings: list[Closing]
    placement: Placement | None = None
    streams: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    outputs: NDArray[np.float32] | None = None

    def samples_by_stream(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of the samples in `inputs`, one stream's together, and which of them begin a sequence."""
        placement = self.placement
        assert placement is not None
        ordinal = np.cumsum(self.events.is_sample) - 1
        return ordinal[placement.order[placement.is_sample]], placement.begins[placement.is_sample]
