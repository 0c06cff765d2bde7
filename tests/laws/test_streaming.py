"""Explicit states: any cut and any company give the answers of the whole sequence, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import StreamingModel
from worker.artifact import write_artifact
from worker.errors import UsageError
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()
import keras  # noqa: E402 - after the set-up

RNG = np.random.default_rng(5)
SEQUENCES = RNG.standard_normal((3, 11, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((None, 2)),
            layers.LSTM(5, return_sequences=True, bias_initializer="random_normal"),
            layers.GRU(4, return_sequences=True, bias_initializer="random_normal"),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def model(
    request: pytest.FixtureRequest, trained: keras.Model, tmp_path_factory: pytest.TempPathFactory
) -> StreamingModel:
    directory = tmp_path_factory.mktemp("streaming") / "artifact"
    write_artifact(trained, directory, features=("x", "y"), classes=("a", "b", "c"), state_dtype=request.param)
    return StreamingModel.load(directory)


def test_a_run_is_what_keras_says_of_the_sequence(model: StreamingModel, trained: keras.Model) -> None:
    expected = np.asarray(trained(SEQUENCES[:1]))[0]
    np.testing.assert_allclose(model.run(SEQUENCES[0]), expected, atol=model.manifest.tolerance)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=11))
@settings(max_examples=40, deadline=None)
def test_any_cut_into_calls_gives_the_bits_of_the_whole(model: StreamingModel, cuts: list[int]) -> None:
    states, answers, begin = model.initial_states(3), [], 0
    for size in [*cuts, 11]:
        chunk = SEQUENCES[:, begin : begin + size]
        probabilities, states = model.step(chunk[:, 0] if chunk.shape[1] == 1 else chunk, states)
        answers.append(probabilities.reshape(3, chunk.shape[1], 3))
        begin += size
    together = np.concatenate(answers, axis=1)
    for stream in range(3):
        assert together[stream].tobytes() == model.run(SEQUENCES[stream]).tobytes()


@given(st.lists(st.integers(0, 11), max_size=9))
@settings(max_examples=30, deadline=None)
def test_many_sequences_of_any_lengths_are_answered_as_each_alone(model: StreamingModel, lengths: list[int]) -> None:
    sequences = [SEQUENCES[number % 3][:length] for number, length in enumerate(lengths)]
    together = model.run_all(sequences)
    assert [answers.shape for answers in together] == [(length, 3) for length in lengths]
    for answers, sequence in zip(together, sequences, strict=True):
        assert answers.tobytes() == model.run(sequence).tobytes()


def test_states_are_the_callers(model: StreamingModel) -> None:
    states = model.initial_states(3)
    kept = states.copy()
    _, moved = model.step(SEQUENCES[:, 0], states)
    assert (states == kept).all()
    assert (moved != kept).any()


@pytest.mark.parametrize("inputs", [np.zeros(3), np.zeros((3, 4)), np.zeros((2, 2)), np.full((3, 2), np.nan)])
def test_what_does_not_fit_is_told(model: StreamingModel, inputs: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"received|NaN"):
        model.step(inputs, model.initial_states(3))


@pytest.mark.parametrize("sequence", [np.zeros(2), np.zeros((3, 4)), np.zeros((1, 3, 2)), np.full((3, 2), np.nan)])
def test_a_sequence_that_does_not_fit_is_told(model: StreamingModel, sequence: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"received|NaN"):
        model.run_all([SEQUENCES[0], sequence])


def test_a_directory_without_an_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"manifest\.json"):
        StreamingModel.load(tmp_path)
