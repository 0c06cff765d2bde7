"""Laws of augmentation: what may change about a sequence in training, and what may not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.augmentation import changed, played
from training.networks import Recipe, Scaling

PLAIN = Recipe()
SCALING = Scaling(np.array([2.0, -1.0, 0.0]), np.array([4.0, 0.25, 1.0]))


def recording(timesteps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((timesteps, 3)).astype(np.float32)


@given(timesteps=st.integers(2, 200), warp=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_changed_speed_keeps_order_beginning_and_end(timesteps: int, warp: float, seed: int) -> None:
    places = played(timesteps, warp, np.random.default_rng(seed))
    assert places[0] == 0
    assert places[-1] == pytest.approx(timesteps - 1)
    assert (np.diff(places) > 0).all()


@pytest.mark.parametrize("timesteps", [1, 2, 17])
def test_sizes_of_zero_change_nothing(timesteps: int) -> None:
    sequence, targets = recording(timesteps), np.arange(timesteps)[:, None]
    again, same = changed(sequence, targets, SCALING, PLAIN, np.random.default_rng(1))
    np.testing.assert_allclose(again, sequence, atol=1e-6)
    np.testing.assert_array_equal(same, targets)


def test_labels_of_timesteps_go_with_their_samples() -> None:
    numbers = np.arange(60, dtype=np.float32)
    recipe = replace(PLAIN, warp=0.5)
    sequence, targets = changed(
        np.stack([numbers] * 3, axis=1), np.arange(60)[:, None], SCALING, recipe, np.random.default_rng(2)
    )
    assert np.abs(sequence[:, 0] - numbers).max() > 1
    assert np.abs(targets[:, 0] - sequence[:, 0]).max() <= 0.5 + 1e-4


def test_scale_stretches_about_the_mean_and_offset_moves_by_deviations() -> None:
    at_mean = np.tile(SCALING.mean, (9, 1)).astype(np.float32)
    stretched, _ = changed(at_mean, np.zeros(9), SCALING, replace(PLAIN, scale=0.5), np.random.default_rng(3))
    np.testing.assert_allclose(stretched, at_mean, atol=1e-6)
    moves = []
    for seed in range(400):
        moved, _ = changed(at_mean, np.zeros(9), SCALING, replace(PLAIN, offset=0.5), np.random.default_rng(seed))
        moves.append((moved - at_mean)[0])
        np.testing.assert_allclose(moved - at_mean, np.tile(moves[-1], (9, 1)), atol=1e-5)
    np.testing.assert_allclose(np.std(moves, axis=0), 0.5 * np.sqrt(SCALING.variance), rtol=0.15)
