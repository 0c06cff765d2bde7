"""The row about large models: the whole worker over the bare compiled step, at the blocks that a poll is cut into."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worker.bench.aims import Aim, Measured, spread
from worker.bench.rows.rates import RATE
from worker.bench.stage import Stage, lstm_artifact
from worker.bench.volley import Traffic
from worker.blocks import Shape, plan

if TYPE_CHECKING:
    from worker.model.step_model import StepModel

UNITS = (256, 256, 256)
SHARE = 8  # of the usual samples: each takes so many times as long, and more
POLLS = 3


def wide(stage: Stage) -> list[Measured]:
    """Three LSTM layers of 256; each round a lap of the worker, then the bare step on a poll's blocks."""
    scale, records = stage.scale, max(1_000, stage.scale.records // SHARE)
    stage.say(f"model {UNITS}")
    artifact = lstm_artifact(stage.folder / "wide", UNITS)
    from worker.model.step_model import DEEP_WIDTHS, WIDTHS, load_step_model  # imports TensorFlow, now set up

    model = load_step_model(artifact)
    if scale.rest:
        for width in WIDTHS:
            model.add_width(width)
        for width in DEEP_WIDTHS:
            model.add_deep(width)
    whole, bare = [], []
    with stage.contestant("cellstream", Traffic(3), artifact=artifact.directory) as worker:
        stage.say("cellstream: start and warm-up")
        worker.warm_up(max(100, records // 10), scale.streams, scale.rest)
        polls = _polls(model, scale.streams, min(stage.settings.poll_records, records))
        for number in range(scale.repeats):
            stage.say(f"round {number + 1} of {scale.repeats}: worker, then bare step")
            whole.append(worker.lap(records, scale.streams).rate)
            bare.append(_bare_rate(model, *polls))
    return [
        Measured(
            "3 x LSTM 256: samples/s over the bare XLA step's at the same blocks",
            Aim(0.9, at_least=True),
            tuple(a / b for a, b in zip(whole, bare, strict=True)),
            f"{spread(whole, RATE)} by {spread(bare, RATE)}",
        )
    ]


def _polls(model: StepModel, streams: int, samples: int) -> tuple[list[Shape], int]:
    """The blocks of a poll of random streams, and its samples."""
    depths = np.bincount(np.random.default_rng(5).integers(0, streams, samples))
    active = [int((depths > level).sum()) for level in range(int(depths.max()))]
    return [block.shape for block in plan(active, model.buckets, model.call_cost)], samples


def _bare_rate(model: StepModel, shapes: list[Shape], samples: int) -> float:
    """Samples per second if nothing but the compiled blocks were run."""
    arguments = {shape: _block(shape, model) for shape in shapes}
    begun = time.perf_counter()
    for shape in POLLS * shapes:
        model.run_block(*arguments[shape])
    return POLLS * samples / (time.perf_counter() - begun)


def _block(
    shape: Shape, model: StepModel
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]]:
    random = np.random.default_rng(6)
    inputs = random.standard_normal((*shape, model.features)).astype(np.float32)
    states = random.uniform(-1, 1, (shape[1], model.state_size)).astype(np.float32)
    return inputs, np.ones(shape, np.bool_), np.zeros(shape, np.bool_), states
