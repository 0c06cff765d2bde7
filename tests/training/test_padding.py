"""Laws of sequences of different lengths: what the padding holds, and how much of it there is, does not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.networks import Recipe, Scaling, build
from training.padding import MASK_VALUE, check_labels, pad, repeat_labels
from worker.errors import UsageError
from worker.model.tensorflow_setup import setup_tensorflow

LENGTHS = (4, 9, 1, 6)
FEATURES, CLASSES = 3, 4


@pytest.fixture(scope="module")
def inputs() -> tuple[NDArray[np.float32], ...]:
    chance = np.random.default_rng(1)
    return tuple((50 + 7 * chance.normal(size=(length, FEATURES))).astype(np.float32) for length in LENGTHS)


@pytest.fixture(scope="module")
def model(inputs: tuple[NDArray[np.float32], ...]) -> Any:
    setup_tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    built = build("laws", CLASSES, Scaling.of(inputs), Recipe(units=(5, 3)), padded=True)
    built.set_weights([np.random.default_rng(2).normal(size=w.shape) for w in built.get_weights()])
    built.compile(loss="sparse_categorical_crossentropy")
    return built


def test_real_timesteps_do_not_depend_on_padding(model: Any, inputs: tuple[NDArray[np.float32], ...]) -> None:
    alone = [model.predict(sequence[None], verbose=0)[0] for sequence in inputs]
    for timesteps in (9, 20):
        together = model.predict(pad(inputs, timesteps), verbose=0)
        for row, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(row[: len(expected)], expected, atol=1e-6)


def test_past_its_end_a_sequence_keeps_its_last_answer(model: Any, inputs: tuple[NDArray[np.float32], ...]) -> None:
    answers = model.predict(pad(inputs, 12), verbose=0)
    for row, sequence in zip(answers, inputs, strict=True):
        np.testing.assert_array_equal(
            row[len(sequence) :], np.broadcast_to(row[len(sequence) - 1], row[len(sequence) :].shape)
        )


def test_the_loss_depends_on_neither_length_nor_labels_of_padding(
    model: Any, inputs: tuple[NDArray[np.float32], ...]
) -> None:
    labels = np.array([0, 3, 1, 2])
    losses = []
    for timesteps, under_padding in ((9, None), (9, 1), (31, 0)):
        repeated = repeat_labels(labels, timesteps)
        if under_padding is not None:
            for row, sequence in zip(repeated, inputs, strict=True):
                row[len(sequence) :] = under_padding
        losses.append(model.evaluate(pad(inputs, timesteps), repeated, verbose=0))
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_scaling_is_that_of_the_real_timesteps(model: Any, inputs: tuple[NDArray[np.float32], ...]) -> None:
    real = np.concatenate(inputs).astype(np.float64)
    layer = model.get_layer("scaling")
    scaled = np.asarray(layer(real[None].astype(np.float32)))[0]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_a_constant_feature_is_not_blown_up() -> None:
    sequence = np.stack([np.arange(8.0), np.full(8, 5.0)], axis=1).astype(np.float32)
    assert Scaling.of((sequence,)).variance[1] == 1.0


def test_a_sample_of_zeros_is_a_timestep_like_any_other(model: Any) -> None:
    zeros, ones = np.zeros((1, 1, FEATURES), np.float32), np.ones((1, 1, FEATURES), np.float32)
    with_zeros = model.predict(np.concatenate([zeros, ones], axis=1), verbose=0)[0, -1]
    without = model.predict(ones, verbose=0)[0, -1]
    assert np.abs(with_zeros - without).max() > 1e-4


def test_the_mask_value_is_exact_in_float32() -> None:
    assert float(np.float32(MASK_VALUE)) == MASK_VALUE


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((2, 5), r"labels\[\.\.\., None\]"),
        ((2,), r"numpy\.repeat"),
        ((2, 1), r"numpy\.repeat"),
        ((2, 4, 1), "every timestep"),
        ((2, 5, 3), "every timestep"),
    ],
)
def test_labels_of_another_shape_are_refused_with_the_remedy(shape: tuple[int, ...], remedy: str) -> None:
    inputs = np.zeros((2, 5, 3), np.float32)
    with pytest.raises(UsageError, match=rf"one label per timestep is \(2, 5, 1\): .*{remedy}"):
        check_labels(np.zeros(shape, np.int64), inputs)
    check_labels(repeat_labels(np.zeros(2, np.int64), 5), inputs)
