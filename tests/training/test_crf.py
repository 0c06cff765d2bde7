"""A chain CRF is its definition: against all labellings of short sequences, as Keras layer, loss, path and stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.crf import PADDING, best_path, enumerated, likelihood_loss
from worker import StreamingModel
from worker.artifact import write_artifact
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402 - after the set-up

from tests.laws.streamed import functional, largest_difference, sequential  # noqa: E402
from worker.model.layers.crf import ChainCRF  # noqa: E402

L = keras.layers
SEEDS, CLASSES, TIME = range(6), 3, 5


def field(seed: int, scale: float = 2.0) -> tuple[ChainCRF, NDArray[np.float32], NDArray[np.int64]]:
    """A layer with random weights, scores `(4, 5, 3)`, and labels."""
    chance = np.random.default_rng(seed)
    layer = ChainCRF(CLASSES)
    scores = (scale * chance.normal(size=(4, TIME, CLASSES))).astype(np.float32)
    layer.build(scores.shape)
    layer.start.assign(scale * chance.normal(size=CLASSES))
    layer.transitions.assign(scale * chance.normal(size=(CLASSES, CLASSES)))
    return layer, scores, chance.integers(0, CLASSES, (4, TIME))


def weights(layer: ChainCRF) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.asarray(layer.start), np.asarray(layer.transitions)


def by_definition(layer: ChainCRF, scores: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return enumerated(scores, *weights(layer))


def answers_to(layer: ChainCRF, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(layer(scores))


@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_is_the_chance_of_the_label_in_the_field_so_far(seed: int) -> None:
    layer, scores, _ = field(seed)
    for own, answers in zip(scores, answers_to(layer, scores), strict=True):
        for t in range(1, TIME + 1):
            chances, paths = by_definition(layer, own[:t])
            np.testing.assert_allclose(answers[t - 1], np.bincount(paths[:, -1], chances, CLASSES), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_of_a_sequence_is_its_negative_log_likelihood(seed: int) -> None:
    layer, scores, labels = field(seed)
    losses = np.asarray(likelihood_loss(layer)(labels[..., None], answers_to(layer, scores)))
    for own, right, loss in zip(scores, labels, losses, strict=True):
        chances, paths = by_definition(layer, own)
        assert loss.sum() == pytest.approx(-np.log(chances[(paths == right).all(axis=1)][0]), abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_path_is_the_most_probable_labelling(seed: int) -> None:
    layer, scores, _ = field(seed)
    for own, answers in zip(scores, answers_to(layer, scores), strict=True):
        chances, paths = by_definition(layer, own)
        assert best_path(answers, weights(layer)[1]).tolist() == paths[chances.argmax()].tolist()


def test_one_timestep_is_its_own_best_path() -> None:
    assert best_path([[0.2, 0.5, 0.3]], np.zeros((3, 3))).tolist() == [1]


def test_what_stands_behind_the_end_of_a_sequence_counts_nothing() -> None:
    layer, scores, labels = field(3)
    short = labels.copy()
    short[:, 3:] = PADDING
    whole = np.asarray(likelihood_loss(layer)(labels[:, :3], answers_to(layer, scores[:, :3])))
    padded = np.asarray(likelihood_loss(layer)(short, answers_to(layer, scores)))
    np.testing.assert_allclose(padded[:, :3], whole, atol=1e-6)
    assert (padded[:, 3:] == 0).all()


def test_scores_that_leave_nothing_open_give_numbers_and_gradients() -> None:
    import tensorflow as tf

    layer, scores, labels = field(5, scale=200.0)
    given = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = keras.ops.sum(likelihood_loss(layer)(labels, layer(given)))
    gradients = tape.gradient(loss, [given, *layer.trainable_variables])
    assert all(np.isfinite(np.asarray(part)).all() for part in (loss, *gradients))


def test_the_gradient_of_a_score_is_the_chance_of_its_label_less_the_label() -> None:
    import tensorflow as tf

    layer, scores, labels = field(6, scale=1.0)
    given = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = keras.ops.sum(likelihood_loss(layer)(labels, layer(given)))
    gradient = np.asarray(tape.gradient(loss, given))
    for own, right, found in zip(scores, labels, gradient, strict=True):
        chances, paths = by_definition(layer, own)
        marginals = np.stack([np.bincount(paths[:, t], chances, CLASSES) for t in range(TIME)])
        np.testing.assert_allclose(found, marginals - np.eye(CLASSES)[right], atol=1e-5)


def masked(inputs: Any) -> Any:
    return ChainCRF(4)(L.Dense(4)(L.LSTM(5, return_sequences=True)(L.Masking(-1.0)(inputs))))


def test_it_streams_as_keras_answers_behind_a_mask_too() -> None:
    assert largest_difference(functional(masked))[0] <= 1e-6


def test_it_goes_through_an_artifact_with_alpha_as_its_state(tmp_path: Path) -> None:
    model = sequential(L.GRU(4, return_sequences=True), L.Dense(3), ChainCRF(3, name="labels"))
    artifact = write_artifact(model, tmp_path, features=("a", "b", "c"), classes=("x", "y", "z"))
    assert [(slot.layer, slot.name, slot.shape) for slot in artifact.manifest.state_layout][-1:] == [
        ("labels", "alpha", (3,))
    ]
    samples = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    told = StreamingModel.load(tmp_path).run(samples)
    np.testing.assert_allclose(told, np.asarray(model(samples[None]))[0], atol=artifact.manifest.parity.tolerance)
    np.testing.assert_allclose(told.sum(axis=1), 1.0, atol=1e-6)


def test_scores_for_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 scores for each timestep, received 4"):
        ChainCRF(3)(np.zeros((1, 2, 4), np.float32))
