"""What a checkpoint of many streams costs the main loop, and how long loading it takes. No broker is needed.

    python -m worker.bench.checkpoints [--streams 1000000] [--records 2000] [--repeats 5] [--json]

A turn answers a poll's records of random streams, with a model of next to no arithmetic. A pause is what the longest
turn of a checkpoint takes beyond the longest of as many turns without one; time in which other processes had the
processor is no part of it, where the system tells (Linux), but waiting for another thread of this one is. A load is
measured against a plain read of the same file into memory, both out of the system's cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from worker.artifact import StateSlot
from worker.bench.aims import spread
from worker.checkpoint import CheckpointStore, CheckpointWriter
from worker.codecs import Float32Codec
from worker.commands.run import quiet_garbage_collector
from worker.encoding.json import JsonEncoder
from worker.engine import Engine
from worker.event_writer import EventWriter
from worker.reading import Reader
from worker.records import Position, RecordBatch
from worker.recovery.keeper import StateKeeper
from worker.recovery.note import Note
from worker.recovery.start import Log, Policies
from worker.state.partition import PartitionState

FEATURES, STATE_SIZE = 3, 112
LAYOUT = tuple(
    StateSlot(f"lstm_{i // 2}", "hc"[i % 2], (size,), offset)
    for i, (size, offset) in enumerate(zip((32, 32, 16, 16, 8, 8), (0, 32, 64, 80, 96, 104), strict=True))
)
TOPIC, DIGEST = "samples", "0" * 64
PAUSE, LOAD = "pause, ms", "load over plain read"


class Halving:
    """A model of next to no arithmetic, so that a turn is bookkeeping and memory."""

    outputs = 1
    call_cost = 1000.0
    buckets = ((1, 64), (1, 1024), (4, 64))

    def run_block(
        self, inputs: NDArray[np.float32], mask: Any, reset: Any, states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Halve the states."""
        return inputs[:, :, :1], states * np.float32(0.5)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=2_000, help="of a poll")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the numbers of each repeat")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellstream-bench-") as directory:
        state = filled(arguments.streams)
        quiet_garbage_collector()
        turns = pauses(state, directory, arguments.records, arguments.repeats)
        loading = loads(state, directory, arguments.repeats)
    if arguments.json:
        print(json.dumps({**turns, **loading}))
        return
    for title, rows in (("the main loop", turns), ("loading", loading)):
        table = Table("what", "median (least..most)", title=title)
        for what, values in rows.items():
            table.add_row(what, spread(values, "{:,.2f}"))
        Console().print(table)


def filled(streams: int) -> PartitionState:
    """A partition with so many streams."""
    rng = np.random.default_rng(1)
    state = PartitionState(0, 2 * streams, np.zeros(STATE_SIZE, np.float32), 2 * streams)
    numbers = np.arange(streams, dtype=np.int64)
    state.load(
        [b"stream-%d" % i for i in range(streams)],
        states=rng.random((streams, STATE_SIZE), np.float32),
        timesteps=numbers % 97,
        starts=numbers,
        start_samples=numbers * 0,
        times=numbers + 1_700_000_000_000,
        offsets=numbers + streams,
    )
    state.stream_time = 1_700_000_000_000 + streams
    state.leader_epoch = 0
    return state


def keeper_in(directory: str, capacity: int) -> StateKeeper:
    """The worker's keeper on a directory."""
    store = CheckpointStore(directory, "bench", LAYOUT)
    initial = np.zeros(STATE_SIZE, np.float32)
    return StateKeeper(CheckpointWriter(store, 2), initial, capacity, DIGEST, Policies(), 1e9, None)


def pauses(state: PartitionState, directory: str, records: int, repeats: int) -> dict[str, list[float]]:
    """Turns without a checkpoint and with one."""
    engine = Engine(
        Halving(), Reader(Float32Codec(FEATURES, 100, 1)), EventWriter(JsonEncoder(["p"], DIGEST[:12])), TOPIC
    )
    keeper = keeper_in(directory, state.capacity)
    rng = np.random.default_rng(2)
    streams = len(state)
    value = np.zeros(FEATURES, np.float32).tobytes()

    def turn() -> float:
        numbers = rng.integers(0, streams, records).tolist()
        offsets = list(range(state.next_offset, state.next_offset + records))
        keys = [b"stream-%d" % i for i in numbers]
        batch = RecordBatch(0, list(keys), [value] * records, offsets, [state.stream_time] * records, None, 0)
        begun = _own_time()
        engine.process([(batch, state)])
        state.committed = state.next_offset
        return _own_time() - begun

    for _ in range(20):
        turn()
    saves, plain, during, written_s = [], [], [], []
    for _ in range(repeats):
        begun, own = time.perf_counter(), _own_time()
        keeper.save(TOPIC, state)
        saves.append(_own_time() - own)
        laps = [saves[-1] + turn()]
        while not keeper.wait(0.0):
            laps.append(turn())
        written_s.append(time.perf_counter() - begun)
        during.append(laps)
        assert [getattr(result, "error", None) for result in keeper.results()] == [None]
        plain.append([turn() for _ in laps])
    keeper.close(10.0)
    longest = [1e3 * (max(with_one) - max(without)) for with_one, without in zip(during, plain, strict=True)]
    return {
        "turns in a checkpoint": [float(len(laps)) for laps in during],
        "seconds until it is durable": written_s,
        "call of save, ms": [1e3 * s for s in saves],
        "median turn without, ms": [1e3 * float(np.median(laps)) for laps in plain],
        "median turn with, ms": [1e3 * float(np.median(laps)) for laps in during],
        "99th percentile without, ms": [1e3 * _late(laps) for laps in plain],
        "99th percentile with, ms": [1e3 * _late(laps) for laps in during],
        "longest turn without, ms": [1e3 * max(laps) for laps in plain],
        "longest turn with, ms": [1e3 * max(laps) for laps in during],
        PAUSE: longest,
    }


def _late(laps: list[float]) -> float:
    return float(np.percentile(laps, 99))


def _own_time() -> float:
    """Seconds without those in which this thread could have run and no processor was free, where the system tells."""
    try:
        waited_ns = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except OSError:
        waited_ns = 0
    return time.perf_counter() - waited_ns / 1e9


def loads(state: PartitionState, directory: str, repeats: int) -> dict[str, list[float]]:
    """Loading the newest checkpoint, beside reading its file."""
    keeper = keeper_in(directory, state.capacity)
    path = max(Path(directory).rglob("*.h5"), key=lambda p: p.name)
    next_offset = int(path.name.partition("-")[0])
    note = str(Note(0, DIGEST[:12], "", 1))
    bounds = Log(TOPIC, 0, "", 0, next_offset, Position(0, next_offset, note), 1, None)
    plain, ratios, load_s = [], [], []
    for _ in range(repeats):
        plain.append(_timed(path.read_bytes))
        load_s.append(_timed(lambda: keeper.load(bounds)))
        ratios.append(load_s[-1] / plain[-1])
    keeper.close(10.0)
    return {"MB": [path.stat().st_size / 1e6], "plain read, s": plain, "load, s": load_s, LOAD: ratios}


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - begun
    del kept
    return seconds


if __name__ == "__main__":
    main()
