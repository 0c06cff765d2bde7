"""Laws of the layers behind a model's answers: they stream as Keras has them, and do what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.artifact import write_artifact
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import functional, largest_difference  # noqa: E402
from worker.model.layers.answers import Calibration, SmoothingCell  # noqa: E402

L = keras.layers


def behind(x: Any, width: int, masked: bool = False) -> Any:
    """Two members, their mean, smoothed and calibrated."""
    x = L.Masking()(x) if masked else x
    activation = "sigmoid" if width == 1 else "softmax"
    members = [L.Dense(width, activation)(L.GRU(3, return_sequences=True)(x)) for _ in range(2)]
    smooth = L.RNN(SmoothingCell(width, 0.4), return_sequences=True)(L.Average()(members))
    return Calibration(5)(smooth)


def with_temperatures(model: Any) -> Any:
    model.layers[-1].temperatures.assign([2.0, 0.5, 1.0, 3.0, 0.75])
    return model


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("width", [1, 3])
def test_they_answer_what_keras_answers(width: int, masked: bool) -> None:
    model = with_temperatures(functional(lambda x: behind(x, width, masked)))
    assert largest_difference(model)[0] <= 1e-6


def test_they_travel_in_the_artifact(tmp_path: Path) -> None:
    model = with_temperatures(functional(lambda x: behind(x, 3)))
    write_artifact(model, tmp_path, features=("a", "b", "c"), classes=("x", "y", "z"))
    samples = np.random.default_rng(2).standard_normal((9, 3)).astype(np.float32)
    np.testing.assert_allclose(StreamingModel.load(tmp_path).run(samples), model(samples[None])[0], atol=1e-6)


@pytest.mark.parametrize("width", [1, 4])
def test_a_temperature_of_one_changes_nothing_and_none_changes_the_winner(width: int) -> None:
    logits = np.random.default_rng(3).standard_normal((20, 6, width)).astype(np.float32)
    answers = np.asarray(keras.ops.sigmoid(logits) if width == 1 else keras.ops.softmax(logits))
    layer = Calibration(6)
    np.testing.assert_allclose(layer(answers), answers, atol=1e-6)
    layer.temperatures.assign([0.3, 0.5, 1.0, 2.0, 4.0, 8.0])
    calibrated = np.asarray(layer(answers))
    if width == 1:
        np.testing.assert_array_equal(calibrated >= 0.5, answers >= 0.5)
    else:
        np.testing.assert_array_equal(calibrated.argmax(-1), answers.argmax(-1))
        np.testing.assert_allclose(calibrated.sum(-1), 1.0, atol=1e-6)
        sharper, softer = calibrated.max(-1)[:, :2], calibrated.max(-1)[:, 3:]
        assert (sharper >= answers.max(-1)[:, :2]).all()
        assert (softer <= answers.max(-1)[:, 3:]).all()


def test_smoothing_is_the_exponential_mean_of_what_was_said() -> None:
    answers = np.random.default_rng(4).random((2, 7, 3)).astype(np.float32)
    smooth = np.asarray(L.RNN(SmoothingCell(3, 0.6), return_sequences=True)(answers))
    for t in range(7):
        weights = 0.6 ** np.arange(t, -1, -1)
        np.testing.assert_allclose(smooth[:, t], np.average(answers[:, : t + 1], axis=1, weights=weights), atol=1e-6)
