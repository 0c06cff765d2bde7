"""The plan of `cellstream plan` held against the real state, checkpoints and recovery, as large as fits.

    python -m tests.bench.scaling [--streams 1000000] [--partitions 4] [--replayed 50000] [--directory DIR] [--json]

One worker's partitions without a broker, one after the other. Each stream is begun by a sample through the engine, with
a model of next to no arithmetic and the state of an LSTM 32-16-8, or with `--lstm` by that itself. Every partition is
saved, goes on for a while, is thrown away, and is restored as after a crash: the newest checkpoint, then the records
behind it. The state must then be what it was, to the bit. Processor seconds and bytes are compared, not the clock.
Memory: some 800 bytes a stream; disk: 520 a stream.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.engine import ONE, compiled_lstm
from worker.bench.checkpoints import DIGEST, STATE_SIZE, TOPIC, Halving, keeper_in
from worker.capacity import Costs, Demand, stream_bytes
from worker.codecs import JsonCodec
from worker.commands.run import quiet_garbage_collector
from worker.encoding.json import JsonEncoder
from worker.engine import Engine
from worker.event_writer import EventWriter
from worker.reading import Reader
from worker.records import Position, RecordBatch
from worker.recovery.keeper import StateKeeper
from worker.recovery.note import Note
from worker.recovery.start import Log
from worker.state.partition import PartitionState

POLL = 20_000
START_MS = 1_700_000_000_000


class Simulation:
    """Partitions of one worker, and what was measured of them.

    Args:
        streams: of each partition.
        partitions: of the worker.
        replayed: records of a partition between its checkpoint and the crash.
        directory: for the checkpoints.
        model: steps them.
    """

    def __init__(self, streams: int, partitions: int, replayed: int, directory: str, model: Any) -> None:
        self.streams, self.partitions, self.replayed = streams, partitions, replayed
        self.initial = np.zeros(STATE_SIZE, np.float32)
        codec = JsonCodec(["x", "y", "z"], 1_000_000, 10_000)
        self.engine = Engine(model, Reader(codec), EventWriter(JsonEncoder(["p"], DIGEST[:12])), TOPIC)
        self.keeper: StateKeeper = keeper_in(directory, 2 * streams)
        self.directory = directory
        self.spent: dict[str, float] = {}
        self.bytes: dict[str, float] = {}

    def play(self) -> None:
        """Begin, save, go on, crash, restore, go on again; raises AssertionError when a state is not what it was."""
        before = resident()
        states = [self._timed("answer the first sample", lambda n=n: self._begun(n)) for n in range(self.partitions)]
        self.bytes["of a stream in memory"] = (resident() - before) / (self.streams * self.partitions)
        for state in states:
            self._timed("save", lambda state=state: self._saved(state))
        files = list(Path(self.directory).rglob("*.h5"))
        assert len(files) == self.partitions
        self.bytes["of a checkpoint"] = sum(path.stat().st_size for path in files) / len(files)
        for state in states:
            self._timed("answer", lambda state=state: self._went_on(state, state.next_offset + self.replayed))
        wanted = [self._digest(state) for state in states]
        ends = [state.next_offset for state in states]
        states.clear()
        for number, end in enumerate(ends):
            states.append(self._timed("load", lambda number=number, end=end: self._restored(number, end)))
            self._timed("replay", lambda end=end: self._went_on(states[-1], end))
        self.bytes["of a stream in memory, restored"] = (resident() - before) / (self.streams * self.partitions)
        self.bytes["of the process at its largest"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert [self._digest(state) for state in states] == wanted, "a state is not what it was before the crash"
        assert self.keeper.close(60)

    def _begun(self, number: int) -> PartitionState:
        state = PartitionState(number, 2 * self.streams, self.initial, 0)
        while state.next_offset < self.streams:
            begin = state.next_offset
            self._answer(state, range(begin, min(begin + POLL, self.streams)), range(begin, begin + POLL))
        state.committed = state.next_offset
        return state

    def _went_on(self, state: PartitionState, end: int) -> None:
        """Records of streams at random, the same for the same offsets."""
        while state.next_offset < end:
            begin, stop = state.next_offset, min(state.next_offset + POLL, end)
            drawn = np.random.default_rng([state.partition, begin]).integers(0, self.streams, stop - begin)
            self._answer(state, range(begin, stop), drawn.tolist())
        state.committed = max(state.committed, end)

    def _answer(self, state: PartitionState, offsets: range, streams: Any) -> None:
        keys: list[bytes | None] = [b"stream-%06d" % number for _, number in zip(offsets, streams, strict=False)]
        times = [START_MS + offset for offset in offsets]
        batch = RecordBatch(state.partition, keys, [ONE] * len(keys), list(offsets), times, None, 0)
        self.engine.process([(batch, state)])

    def _saved(self, state: PartitionState) -> None:
        self.keeper.save(TOPIC, state)
        assert self.keeper.wait(600)
        assert [getattr(result, "error", None) for result in self.keeper.results()] == [None]

    def _restored(self, number: int, committed: int) -> PartitionState:
        note = Note(0, DIGEST[:12], "", self.partitions)
        position = Position(number, committed, str(note))
        bounds = Log(TOPIC, number, "", 0, committed, position, self.partitions, self.partitions)
        state, start = self.keeper.load(bounds)
        assert (start.next_offset, start.why) == (self.streams, "checkpoint")
        self.keeper.adopt(bounds, state, start)
        return state

    def _digest(self, state: PartitionState) -> str:
        """Of all streams, whatever rows they have."""
        rows = np.fromiter((state.index[b"stream-%06d" % n] for n in range(self.streams)), np.int64, self.streams)
        digest = hashlib.sha256()
        for begin in range(0, self.streams, POLL):
            piece = rows[begin : begin + POLL]
            for column in (state.states, state.timesteps, state.starts, state.offsets, state.times):
                digest.update(column[piece].tobytes())
        return digest.hexdigest()

    def _timed(self, what: str, call: Callable[[], Any]) -> Any:
        begun = time.process_time()
        found = call()
        self.spent[what] = self.spent.get(what, 0.0) + time.process_time() - begun
        return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def compared(simulation: Simulation) -> dict[str, tuple[float | None, float, str]]:
    """What was predicted, what was measured, and in which unit."""
    costs, demand = Costs(), Demand(simulation.streams * simulation.partitions, 0, STATE_SIZE)
    everybody, spent = demand.streams, simulation.spent
    save = everybody * costs.save_byte_s * demand.saved_bytes
    load = everybody * (costs.load_stream_s + costs.load_byte_s * demand.saved_bytes)
    again = simulation.partitions * simulation.replayed
    per_stream = stream_bytes(demand, costs)
    return {
        "memory of a stream, bytes": (per_stream, simulation.bytes["of a stream in memory"], "{:,.0f}"),
        "the same, restored": (per_stream, simulation.bytes["of a stream in memory, restored"], "{:,.0f}"),
        "all memory at its largest, MiB": (
            (costs.process_bytes + everybody * per_stream) / 2**20,
            simulation.bytes["of the process at its largest"] / 2**20,
            "{:,.0f}",
        ),
        "checkpoint of a partition, MB": (
            simulation.streams * demand.saved_bytes / 1e6, simulation.bytes["of a checkpoint"] / 1e6, "{:,.1f}"
        ),
        "saving all, CPU s": (save, spent["save"], "{:.2f}"),
        "loading all, CPU s": (load, spent["load"], "{:.2f}"),
        "replay of a sample, CPU us": (1e6 * costs.replay_s, 1e6 * spent["replay"] / again, "{:.2f}"),
        "engine's part of a sample, CPU us": (None, 1e6 * spent["answer"] / again, "{:.2f}"),
        "the same of a new stream, CPU us": (None, 1e6 * spent["answer the first sample"] / everybody, "{:.2f}"),
    }  # fmt: skip


def main() -> None:
    """Print predicted and measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000_000, help="of all partitions")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--replayed", type=int, default=50_000, help="records of each partition")
    parser.add_argument("--lstm", action="store_true", help="step by a compiled LSTM")
    parser.add_argument("--directory", help="for the checkpoints [a temporary one]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    quiet_garbage_collector()
    with tempfile.TemporaryDirectory(prefix="cellstream-scaling-", dir=arguments.directory) as directory:
        each = arguments.streams // arguments.partitions
        model = compiled_lstm() if arguments.lstm else Halving()
        simulation = Simulation(each, arguments.partitions, arguments.replayed, directory, model)
        simulation.play()
    found = compared(simulation)
    if arguments.json:
        print(json.dumps({what: row[:2] for what, row in found.items()}))
        return
    table = Table("what", "predicted", "measured", "ratio", title=f"{arguments.streams:,} streams")
    for what, (predicted, measured, form) in found.items():
        ratio = "" if predicted is None else f"{measured / predicted:.2f}"
        table.add_row(what, "" if predicted is None else form.format(predicted), form.format(measured), ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
