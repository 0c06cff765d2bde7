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
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from worker.codecs import Float32Codec, JsonCodec
from worker.encoding.json import JsonEncoder
from worker.engine import Engine
from worker.event_writer import EventWriter
from worker.model.tensorflow_setup import setup_tensorflow
from worker.reading import Reader
from worker.records import RecordBatch
from worker.state.partition import PartitionState

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
    model = compiled_lstm()
    chunks, numbers = (MANY, CHUNK), np.tile(np.array([0.25, -0.5, 1.0], "<f4"), CHUNK).tobytes()
    cases = {
        "10,000 streams": case(model, 10_000, arguments.samples),
        "one hot stream": case(model, 1, arguments.samples),
        "1,000 streams": case(model, 1_000, arguments.samples),
        f"{arguments.live:,} streams": case(model, arguments.live, arguments.samples),
        f"10,000 streams, chunks of {CHUNK}": case(model, 10_000, arguments.samples, *chunks),
        "the same, an event for each record": case(model, 10_000, arguments.samples, *chunks, per_record=True),
        "the same, float32 values": case(model, 10_000, arguments.samples, numbers, CHUNK, True, float32=True),
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


def compiled_lstm() -> Any:
    """The 32-16-8 LSTM, all its blocks compiled."""
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
    return model


def case(
    model: Any,
    streams: int,
    samples: int,
    value: bytes = ONE,
    chunk: int = 1,
    per_record: bool = False,
    float32: bool = False,
) -> Callable[[], None]:
    """A partition with so many live streams, and what gives it the next poll."""
    limits = 1_000_000, 10_000
    codec = Float32Codec(FEATURES, *limits) if float32 else JsonCodec(["x", "y", "z"], *limits)
    encoder = JsonEncoder(["p"], "0" * 12)
    engine = Engine(model, Reader(codec), EventWriter(encoder, per_record=per_record), "samples")
    state = PartitionState(0, streams, model.initial_state, 0)
    ids = [b"stream-%d" % i for i in range(streams)]
    state.load(
        ids, states=np.zeros((streams, len(model.initial_state)), np.float32), timesteps=np.ones(streams, np.int64)
    )
    state.prefixes = [encoder.prefix(stream_id, 0, 0, 0) for stream_id in ids]  # answered before
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
