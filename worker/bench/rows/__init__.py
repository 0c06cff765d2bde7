"""The rows of the table of aims, each measured alone or all in one run.

`ROWS` names what measures them, in the order of the table. Each function takes a `Stage` and returns the rows that one
set-up gives: the rate and the processor time of the same laps are two rows of one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.bench.aims import Measured
from worker.bench.rows.checkpoints import checkpoints
from worker.bench.rows.latency import latency
from worker.bench.rows.live import live
from worker.bench.rows.rates import chunks, float32, hot, json
from worker.bench.rows.replay import replay
from worker.bench.rows.start import start
from worker.bench.rows.wide import wide
from worker.bench.stage import Stage

Measure = Callable[[Stage], Sequence[Measured]]


@dataclass(frozen=True)
class RowGroup:
    """What measures some rows.

    Attributes:
        measure: gives them.
        seconds: that it takes at full scale on two quiet cores, about.
        words: what it measures.
    """

    measure: Measure
    seconds: int
    words: str


ROWS: dict[str, RowGroup] = {
    "json": RowGroup(json, 120, "samples/s and CPU per sample over the passthrough's"),
    "float32": RowGroup(float32, 100, "the same with the float32 codec"),
    "chunks": RowGroup(chunks, 100, "chunks of 64 samples, an event for each record, on one core"),
    "hot": RowGroup(hot, 90, "one stream that has all samples"),
    "live": RowGroup(live, 150, "CPU per sample and memory of 1,000,000 live streams"),
    "wide": RowGroup(wide, 120, "three LSTM layers of 256 over the bare step"),
    "latency": RowGroup(latency, 210, "p99 at half load"),
    "checkpoints": RowGroup(checkpoints, 90, "pause of the main loop in a checkpoint, and loading it"),
    "replay": RowGroup(replay, 110, "replay speed over live speed"),
    "start": RowGroup(start, 40, "process start to first probability"),
}
