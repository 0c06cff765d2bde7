"""Laws of batches: who is in which, how long they are, what counts in them, and what decides it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.test_fitting import made
from training.batches import BATCHES_OF_A_DRAW, Batches, mixed
from training.networks import Recipe, Scaling
from training.padding import MASK_VALUE
from training.targets import Targets, class_weights

MASKED, CONVOLVED = Recipe(batch_size=4), Recipe(batch_size=4, filters=(3,))


def batches_of(classes: int, recipe: Recipe, seed: int = 0, *, balanced: bool = False) -> Batches:
    part = made(classes, (5, 8, 11), 40).train
    weights = class_weights(part) if balanced else None
    targets = Targets(part, recipe, padded=True, weights=weights)
    return Batches(part.inputs, targets, Scaling.of(part.inputs), recipe, seed)


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=150), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_sequence_is_in_one_batch_beside_others_of_similar_length(
    lengths: list[int], size: int, seed: int
) -> None:
    told = np.array(lengths)
    epoch = mixed(told, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(epoch).tolist()) == list(range(len(lengths)))
    assert len(epoch) == -(-len(lengths) // size)
    assert max(map(len, epoch)) <= size
    if len(lengths) <= size * BATCHES_OF_A_DRAW:  # one draw: its batches are cut from one order of lengths
        spans = sorted((told[own].min(), told[own].max()) for own in epoch)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


@pytest.mark.parametrize("recipe", [MASKED, CONVOLVED])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_batch_is_as_long_as_its_longest_and_padding_does_not_count(recipe: Recipe, classes: int) -> None:
    longest = set()
    for x, y, *weights in batches_of(classes, recipe):
        real = np.array([3.5 for _ in x]) if not recipe.filters else weights[0].sum(axis=1)
        if recipe.filters:
            assert x.shape[1] == real.max()
            np.testing.assert_array_equal(weights[0], np.arange(x.shape[1]) < real[:, None])
        else:
            assert not weights
            assert (x[:, -1] != MASK_VALUE).all(axis=1).any()
        assert y.shape == (*x.shape[:2], 1 if classes == 2 else classes)
        longest.add(x.shape[1])
    assert len(longest) > 1


@pytest.mark.parametrize("recipe", [MASKED, replace(CONVOLVED, scale=0.2, offset=0.2, warp=0.2)])
def test_epochs_differ_and_are_the_same_again(recipe: Recipe) -> None:
    one, other = batches_of(3, recipe, 5), batches_of(3, recipe, 5)
    epochs = []
    for epoch in (0, 1):
        one.epoch = other.epoch = epoch
        for own, again in zip(one, other, strict=True):
            np.testing.assert_array_equal(own[0], again[0])
        epochs.append(np.concatenate([own[0].ravel() for own in one])[:50])
    assert not np.array_equal(*epochs)
    assert not np.array_equal(np.concatenate([own[0].ravel() for own in batches_of(3, recipe, 6)])[:50], epochs[0])


def test_weighted_classes_count_the_same_in_all() -> None:
    part = made(3, (5, 8), 60).train
    some = part.take(np.flatnonzero((part.labels != 2) | (np.arange(len(part)) % 5 == 0)))
    weights = class_weights(some)
    counts = np.bincount(np.repeat(some.labels, some.lengths))
    np.testing.assert_allclose(weights * counts, counts.sum() / 3, rtol=1e-6)
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1.0)
    _, targets, in_batch = Targets(some, MASKED, padded=True, weights=weights).arrays(some.inputs)
    np.testing.assert_allclose(in_batch, (targets @ weights), rtol=1e-6)
