"""Models of random weights, and how far their stepped form is from Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from worker.model.parity import difference, draw_samples, expected_answers, rounding_noise, run_interleaved
from worker.model.step_model import StepModel


def with_random_weights(model: Any, seed: int = 0) -> Any:
    """Every weight random, biases and slopes too, so that a swap shows; small enough to be stable."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
        value = rng.standard_normal(variable.shape) / np.sqrt(fan_in)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def functional(build: Callable[[Any], Any], features: int = 3, time: int | None = None) -> Any:
    """A model of one input, with random weights."""
    inputs = keras.Input((time, features))
    return with_random_weights(keras.Model(inputs, build(inputs)))


def sequential(*layers: Any, features: int = 3, time: int | None = None) -> Any:
    """A stack of layers, with random weights."""
    return with_random_weights(keras.Sequential([keras.Input((time, features)), *layers]))


def largest_difference(model: Any, seed: int = 1) -> tuple[float, int]:
    """Between stepping and Keras, over prefixes of random sequences that went interleaved through ragged blocks.

    As `certify`, with the narrowest width only: one compilation instead of three.

    Returns:
        The difference, and the number of prefixes.
    """
    rng = np.random.default_rng(seed)
    stepped = StepModel(model)
    samples = draw_samples(model, rng)
    lengths = rng.integers(1, samples.shape[1] + 1, len(samples))
    lengths[0] = samples.shape[1]
    cut = [row[:n] for row, n in zip(samples, lengths, strict=True)]
    answers = run_interleaved(stepped, cut, stepped.buckets, rng)
    largest, prefixes = 0.0, 0
    for length, expected in expected_answers(model, stepped.causal, samples):
        alive = np.flatnonzero(lengths >= length)
        ours = np.stack([answers[row][length - 1] for row in alive])
        assert np.isfinite(ours).all(), "an answer is no number"
        largest = max(largest, difference(ours, expected[alive], stepped.mean_of_none))
        prefixes += len(alive)
    return largest, prefixes


def noise(model: Any, seed: int = 1) -> float:
    """What compiling the Keras model as a whole changes in its answers, on the same sequences."""
    return rounding_noise(model, [draw_samples(model, np.random.default_rng(seed))], StepModel(model).causal)
