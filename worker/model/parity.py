"""Parity: what stepping answers is what the Keras model answers for the sequence so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.model.certificate import Certificate, tolerance_for

Floats: TypeAlias = NDArray[np.float32]

SEEDS = (1, 2, 3)
SEQUENCES, LONGEST, PREFIXES = 24, 40, 8
WIDTHS = (64, 128)


def certify(model: Any, stepped: Any, seeds: tuple[int, ...] = SEEDS) -> Certificate:
    """Compare a Keras model with its stepped form over random sequences of random lengths.

    The sequences go through blocks of several shapes, cut raggedly, interleaved, rows in changing places.

    Args:
        model: the Keras model.
        stepped: the `StepModel` made from it; gains the buckets that the comparison uses.
        seeds: one set of sequences for each.
    """
    for width in WIDTHS:
        stepped.add_width(width)
    buckets = stepped.buckets
    largest, prefixes, draws = 0.0, 0, []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        samples = draw_samples(model, rng)
        draws.append(samples)
        lengths = rng.integers(1, samples.shape[1] + 1, len(samples))
        lengths[0] = samples.shape[1]
        answers = run_interleaved(stepped, [row[:n] for row, n in zip(samples, lengths, strict=True)], buckets, rng)
        for length, expected in expected_answers(model, stepped.causal, samples):
            alive = np.flatnonzero(lengths >= length)
            stepped_answers = np.stack([answers[row][length - 1] for row in alive])
            largest = max(largest, _difference(stepped_answers, expected[alive]))
            prefixes += len(alive)
    noise = rounding_noise(model, draws)
    return Certificate(largest, tolerance_for(noise), prefixes, SEQUENCES * len(seeds), seeds, buckets, noise)


def rounding_noise(model: Any, draws: Sequence[Floats]) -> float:
    """How far a Keras model's answers move when XLA compiles it as a whole: no part of stepping is involved.

    Args:
        model: the Keras model.
        draws: each `(sequences, time, features)` float32, of one shape.

    Returns:
        The largest difference of an answer; 0 when XLA cannot compile the model.
    """
    import tensorflow as tf

    keras_model = _accepting(model, draws[0].shape)

    def answer(samples: Any) -> Any:
        return keras_model(samples, training=False)

    spec = tf.TensorSpec(draws[0].shape, tf.float32)
    try:
        compiled = tf.function(answer, jit_compile=True, autograph=False).get_concrete_function(spec)
        return max(
            _difference(np.asarray(compiled(tf.constant(samples))), np.asarray(answer(samples))) for samples in draws
        )
    except (tf.errors.OpError, NotImplementedError, TypeError, ValueError):  # an operation that XLA does not have
        return 0.0


def expected_answers(model: Any, causal: bool, samples: Floats) -> Iterator[tuple[int, Floats]]:
    """Keras' answers for prefixes of sequences.

    A model that answers every timestep gives those of all prefixes in one call. One that answers a whole sequence is
    called for `PREFIXES` lengths.

    Args:
        model: the Keras model.
        causal: whether it answers every timestep.
        samples: `(sequences, time, features)` float32.

    Yields:
        Length of the prefix and answers `(sequences, outputs)`.
    """
    time = samples.shape[1]
    if causal:
        answers = np.asarray(_accepting(model, samples.shape)(samples, training=False))
        yield from ((length, answers[:, length - 1]) for length in range(1, time + 1))
        return
    for length in sorted({*np.linspace(1, time, PREFIXES).astype(int).tolist()}):
        prefix = samples[:, :length]
        yield length, np.asarray(_accepting(model, prefix.shape)(prefix, training=False))


def draw_samples(model: Any, rng: np.random.Generator) -> Floats:
    """Random sequences `(SEQUENCES, time, features)` float32, in the range that the model was made for.

    Behind a Normalization layer they are distributed as what it was adapted to; for a Masking layer a part of the
    timesteps, the first ones of some sequences too, carry its mask value.
    """
    _, fixed, features = model.inputs[0].shape
    shape = (SEQUENCES, fixed or LONGEST, features)
    samples = rng.standard_normal(shape)
    layers = list(_flat_layers(model))
    for layer in layers:
        if type(layer).__name__ == "Normalization" and not layer.invert:
            mean, deviation = np.ravel(layer.mean), np.sqrt(np.ravel(layer.variance))
            if mean.size in (1, features):
                samples = mean + deviation * samples
                break
    for layer in layers:
        if type(layer).__name__ == "Masking":
            samples[rng.random(shape[:2]) < 0.15] = layer.mask_value
            samples[: SEQUENCES // 4, :2] = layer.mask_value
    return samples.astype(np.float32)


def run_interleaved(
    stepped: Any, sequences: Sequence[Floats], buckets: Sequence[tuple[int, int]], rng: np.random.Generator
) -> list[Floats]:
    """Step sequences through random blocks: cut raggedly, in any company, in any row, two to a stream.

    Args:
        stepped: a `StepModel`.
        sequences: each `(time, features)` float32.
        buckets: shapes to choose from.
        rng: decides everything.

    Returns:
        Each sequence's answers `(time, outputs)`.
    """
    pairs = [np.arange(len(sequences))[k : k + 2] for k in range(0, len(sequences), 2)]
    streams = [np.concatenate([sequences[k] for k in pair]) for pair in pairs]
    starts = [np.cumsum([0, *(len(sequences[k]) for k in pair)])[:-1] for pair in pairs]
    answers = [np.empty((len(stream), stepped.outputs), np.float32) for stream in streams]
    # Garbage: only a reset may make a state usable, and rows of padding must not reach the others.
    states = np.full((len(streams), stepped.state_size), np.nan, np.float32)
    done = np.zeros(len(streams), int)
    while waiting := [k for k, stream in enumerate(streams) if done[k] < len(stream)]:
        depth, width = buckets[int(rng.integers(len(buckets)))]
        chosen = rng.permutation(waiting)[: rng.integers(1, min(len(waiting), width) + 1)]
        rows = rng.permutation(width)[: len(chosen)]
        inputs = np.full((depth, width, stepped.features), np.nan, np.float32)
        mask, reset = np.zeros((depth, width), bool), np.zeros((depth, width), bool)
        block_states = np.full((width, stepped.state_size), np.nan, np.float32)
        block_states[rows] = states[chosen]
        taken = np.minimum(rng.integers(1, depth + 1, len(chosen)), [len(streams[k]) - done[k] for k in chosen])
        for k, row, n in zip(chosen, rows, taken, strict=True):
            inputs[:n, row] = streams[k][done[k] : done[k] + n]
            mask[:n, row] = True
            reset[:n, row] = np.isin(np.arange(done[k], done[k] + n), starts[k])
        block_answers, moved = stepped.run_block(inputs, mask, reset, block_states)
        for k, row, n in zip(chosen, rows, taken, strict=True):
            answers[k][done[k] : done[k] + n] = block_answers[:n, row]
        states[chosen] = moved[rows]
        done[chosen] += taken
    return [part for answer, start in zip(answers, starts, strict=True) for part in np.split(answer, start[1:])]


def _difference(one: Floats, other: Floats) -> float:
    """The largest absolute difference; infinite where one is no number."""
    largest = float(np.max(np.abs(one - other)))
    return largest if np.isfinite(largest) else float("inf")


def _accepting(model: Any, shape: tuple[int, ...]) -> Any:
    """The model, or when its batch size or length is fixed to another one, the same layers on free axes."""
    import keras

    fixed = model.inputs[0].shape
    if all(axis is None or axis == wanted for axis, wanted in zip(fixed, shape, strict=True)):
        return model
    clone = keras.models.clone_model(model, input_tensors=keras.Input(shape[1:]))
    clone.set_weights(model.get_weights())
    return clone


def _flat_layers(model: Any) -> Iterator[Any]:
    """All layers, those of nested models in their place."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat_layers(layer)
        else:
            yield layer
