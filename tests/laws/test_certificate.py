"""Laws of the certificate: what is only rounding is forgiven, and a wrong step is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.artifact import read_artifact, write_artifact
from worker.errors import ArtifactRefused
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)
import tensorflow as tf  # noqa: E402

from tests.laws.small_model import CLASSES, FEATURES, make_model  # noqa: E402
from worker.model import export as export_module  # noqa: E402
from worker.model.certificate import tolerance_for  # noqa: E402
from worker.model.parity import prefix_lengths, rounding_noise, spot  # noqa: E402
from worker.model.step_model import StepModel, load_step_model  # noqa: E402

L = keras.layers
# Factors of random weights: a rounding grows a few times; it doubles at every step.
GROWING, CHAOTIC = 1.6, 3.0


def amplifying(factor: float) -> Any:
    """A recurrent layer whose kernels let a rounding grow from step to step."""
    keras.utils.set_random_seed(5)  # a layer draws its seed when it is made, before `make_model` sets one
    model = make_model(
        L.Dense(8), L.SimpleRNN(64, return_sequences=True, activation="tanh"), L.Dense(3, activation="softmax")
    )
    for kernel in (model.layers[1].cell.recurrent_kernel, model.layers[2].kernel):
        kernel.assign(factor * kernel.numpy())
    return model


def test_a_model_that_amplifies_rounding_is_exported_with_the_tolerance_that_it_needs(tmp_path: Path) -> None:
    export = write_artifact(amplifying(GROWING), tmp_path / "a", features=FEATURES, classes=CLASSES)
    certificate = read_artifact(export.directory).manifest.parity
    assert 1e-6 < certificate.largest_difference <= certificate.tolerance
    assert certificate.tolerance == 4 * certificate.noise < 1e-4


def one_bias_off(model: Any, rule: Any = None) -> StepModel:
    """The stepped form of a model, with a bias that is wrong by a thousandth."""
    wrong = keras.models.clone_model(model)
    wrong.set_weights(model.get_weights())
    recurrent = wrong.layers[1].cell.bias
    recurrent.assign(recurrent.numpy() + 1e-3 * np.eye(len(recurrent.numpy()), dtype=np.float32)[0])
    return StepModel(wrong)


@pytest.mark.parametrize("factor", [1.0, GROWING])
def test_a_wrong_step_is_refused_even_where_rounding_is_amplified(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "StepModel", one_bias_off)
    with pytest.raises(ArtifactRefused, match=r"stepping differs from Keras by .* Please report it"):
        write_artifact(amplifying(factor), tmp_path / "a", features=FEATURES, classes=CLASSES)
    assert not (tmp_path / "a").exists()


def test_a_model_that_amplifies_rounding_beyond_use_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=r"amplifies rounding: .* L2 regularisation"):
        write_artifact(amplifying(CHAOTIC), tmp_path / "a", features=FEATURES, classes=CLASSES)
    assert not (tmp_path / "a").exists()


def test_where_xla_cannot_compile_the_keras_model_nothing_is_forgiven() -> None:
    def cannot(inputs: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(np.tanh, [inputs], tf.float32), inputs.shape)

    model = make_model(L.Lambda(cannot, output_shape=(None, 2)), L.GRU(3))
    assert rounding_noise(model, [np.ones((2, 3, 2), np.float32)]) == 0
    assert tolerance_for(0.0) == 1e-6


def test_rounding_is_measured_where_answers_are_compared() -> None:
    # A sum that grows: at the end of a sequence the sigmoid is so sure that no rounding moves it any more.
    total = L.SimpleRNN(3, activation="linear", kernel_initializer="ones", recurrent_initializer="identity")
    model = keras.Sequential(
        [keras.Input((None, 2)), total, L.Dense(1, activation="sigmoid", kernel_initializer="ones")]
    )
    samples = np.abs(np.random.default_rng(5).standard_normal((8, 40, 2))).astype(np.float32)
    whole = rounding_noise(model, [samples])
    prefixes = [rounding_noise(model, [samples[:, :length]]) for length in prefix_lengths(40)]
    assert rounding_noise(model, [samples], causal=False) == max(prefixes) > whole


def test_an_export_that_answers_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="NaN or infinite"):
        write_artifact(amplifying(float("nan")), tmp_path / "a", features=FEATURES, classes=CLASSES)


def test_a_start_on_a_machine_where_stepping_differs_is_refused(tmp_path: Path) -> None:
    model = amplifying(1.0)
    export = write_artifact(model, tmp_path / "a", features=FEATURES, classes=CLASSES)
    assert spot(model, StepModel(model)) <= export.manifest.parity.tolerance < spot(model, one_bias_off(model))

    stricter = dataclasses.replace(export.manifest.parity, largest_difference=0.0, tolerance=0.0)  # than any machine is
    artifact = dataclasses.replace(export, manifest=dataclasses.replace(export.manifest, parity=stricter))
    with pytest.raises(ArtifactRefused, match=r"on this machine.*cellstream check"):
        load_step_model(artifact)
