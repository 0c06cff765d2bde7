"""Processor time of a sample in the engine, without a broker: one hot stream, many streams, chunks.

    python -m tests.bench.engine [--samples 20000] [--repeats 5] [--live 1000000]

Decode, place, step and encode, as the worker does them; polling, producing and committing are left out. Every round
runs each case once; ratios are taken within a round, and it is processor time of the whole process that is compared,
so that other work on the machine shows little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import count

import numpy as np
from rich.console import Console
from rich.table import Table

from worker.codecs import JsonCodec
from worker.encoding import ProbabilityEncoder
from worker.engine import Engine
from worker.model.tensorflow_setup import setup_tensorflow
from worker.reading import Reader
from worker.records import RecordBatch
from worker.state import PartitionState

FEATURES = 3
ONE = b'{"features":[0.25,-0.5,1.0]}'
CHUNK = 64
MANY = b'{"samples":[' + b",".join([b"[0.25,-0.5,1.0]"] * CHUNK) + b"]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000, help="of a poll")
    parser.add_argument("--polls", type=int, default=5, help="of a case in a round")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--live", type=int, default=1_000_000, help="streams of the largest case")
    arguments = parser.parse_args()
    engine, initial_state = engine_of_an_lstm()
    cases = {
        "10,000 streams": case(engine, initial_state, 10_000, arguments.samples),
        "one hot stream": case(engine, initial_state, 1, arguments.samples),
        "1,000 streams": case(engine, initial_state, 1_000, arguments.samples),
        f"{arguments.live:,} streams": case(engine, initial_state, arguments.live, arguments.samples),
        f"10,000 streams, chunks of {CHUNK}": case(engine, initial_state, 10_000, arguments.samples, MANY, CHUNK),
    }
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(arguments.repeats + 1):
        for name, poll in cases.items():
            begun = time.process_time()
            for _ in range(arguments.polls):
                poll()
            if number:  # the first round warms up
                spent[name].append(1e6 * (time.process_time() - begun) / (arguments.polls * arguments.samples))
    table = Table(
        "case", "CPU us a sample", "rate over 10,000 streams'", title=f"polls of {arguments.samples:,} samples"
    )
    base = spent["10,000 streams"]
    for name, values in spent.items():
        table.add_row(name, _spread(values), _spread([b / v for b, v in zip(base, values, strict=True)]))
    Console().print(table)


def engine_of_an_lstm() -> tuple[Engine, np.ndarray]:
    """The engine with the 32-16-8 LSTM, all its blocks compiled."""
    setup_tensorflow()
    import keras

    from worker.model.step_model import StepModel

    keras.utils.set_random_seed(1)
    lstm = [keras.layers.LSTM(units, return_sequences=True) for units in (32, 16, 8)]
    model = StepModel(
        keras.Sequential([keras.Input((None, FEATURES)), *lstm, keras.layers.Dense(1, activation="sigmoid")])
    )
    model.start_compiling()
    assert model._compiler is not None
    model._compiler.join()
    reader = Reader(JsonCodec(["x", "y", "z"], 1_000_000, 10_000))
    return Engine(model, reader, ProbabilityEncoder(["p"], "0" * 12), "samples"), model.initial_state


def case(
    engine: Engine, initial_state: np.ndarray, streams: int, samples: int, value: bytes = ONE, chunk: int = 1
) -> Callable[[], None]:
    """A partition with so many live streams, and what gives it the next poll."""
    state = PartitionState(0, streams, initial_state, 0)
    ids = [b"stream-%d" % i for i in range(streams)]
    state.load(ids, states=np.zeros((streams, len(initial_state)), np.float32), timesteps=np.ones(streams, np.int64))
    state.prefixes = [engine._encoder.prefix(stream_id, 0, 0, 0) for stream_id in ids]  # answered before
    rng, records, turns = np.random.default_rng(3), samples // chunk, count()

    def poll() -> None:
        begin = next(turns) * records
        keys: list[bytes | None] = [b"stream-%d" % i for i in rng.integers(0, streams, records).tolist()]
        batch = RecordBatch(0, keys, [value] * records, list(range(begin, begin + records)), [1] * records)
        engine.process([(batch, state)])

    return poll


def _spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


if __name__ == "__main__":
    main()
