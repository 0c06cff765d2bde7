"""States of 16 bits: half the memory, rounded after every timestep, the same to the bit however they travelled."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from worker.artifact import StateType, read_artifact, write_artifact
from worker.checkpoint.file import LiveSnapshot, write_file
from worker.checkpoint.reader import read_file
from worker.errors import NotStreamable
from worker.model.tensorflow_setup import setup_tensorflow
from worker.state.partition import PartitionState

setup_tensorflow()
import keras  # noqa: E402  (after its variables are set)

from worker.model.step_model import StepModel, load_step_model  # noqa: E402

L = keras.layers
NARROW: tuple[StateType, ...] = ("float16", "bfloat16")


def lstm() -> keras.Model:
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [
            L.Input((None, 3)),
            L.LSTM(6, return_sequences=True),
            L.GRU(4, return_sequences=True),
            L.Dense(2, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("state_dtype", NARROW)
def test_an_artifact_says_what_narrow_states_cost_and_is_another_one(state_dtype: StateType, tmp_path: Path) -> None:
    names = {"features": ("a", "b", "c"), "classes": ("off", "on")}
    wide = write_artifact(lstm(), tmp_path / "wide", **names)
    narrow = write_artifact(lstm(), tmp_path / "narrow", **names, state_dtype=state_dtype)
    assert wide.manifest.state_rounding == 0 < narrow.manifest.state_rounding < 0.01
    assert wide.digest != narrow.digest  # or checkpoints of one would be taken up by the other
    assert wide.manifest.parity == narrow.manifest.parity  # the steps are the same, and hold as exactly as ever
    model = load_step_model(read_artifact(tmp_path / "narrow"))
    assert model.initial_state.nbytes == 2 * model.state_size == 2 * wide.manifest.state_size


@pytest.mark.parametrize("state_dtype", NARROW)
def test_a_checkpoint_keeps_narrow_states_to_the_bit(state_dtype: StateType) -> None:
    model = StepModel(lstm(), state_dtype)
    saved = PartitionState(0, 8, model.initial_state, 5)
    rng = np.random.default_rng(1)
    for name in (b"a", b"b", b"c"):
        saved.states[saved.allocate(name)] = rng.standard_normal(model.state_size)
    file = io.BytesIO()
    header = {"topic": "t", "topic_id": "", "partition": 0, "next_offset": 5, "leader_epoch": 0, "stream_time": 0}
    snapshot = LiveSnapshot(**header, artifact_digest="d", created_ms=0, streams=saved.freeze())
    write_file(file, snapshot, model.layout)
    for in_place in (True, False):
        loaded = PartitionState(0, 8, model.initial_state, 5)
        read = read_file(file, model.layout, "file", loaded.states if in_place else None)
        loaded.load(read.stream_ids, read.index, states=read.states)
        assert loaded.states.dtype == saved.states.dtype == model.initial_state.dtype
        assert loaded.states.tobytes() == saved.states.tobytes()


def test_what_counts_or_sums_is_not_rounded() -> None:
    model = keras.Sequential(
        [L.Input((None, 2)), L.Dense(3), L.GlobalAveragePooling1D(name="mean"), L.Dense(1, activation="sigmoid")]
    )
    assert StepModel(model).initial_state.dtype == np.float32
    with pytest.raises(NotStreamable, match=r"'mean'.*float32"):
        StepModel(model, "float16")
