"""Parity: what stepping answers is what the Keras model answers for the sequence so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.model.certificate import Certificate, tolerance_for
from worker.model.inputs import columns_of, inputs_of

Floats: TypeAlias = NDArray[np.float32]

SEEDS = (1, 2, 3)
SEQUENCES, LONGEST, PREFIXES = 24, 40, 8
WIDTHS = (64, 128)
SPOT_LENGTH, SPOT_PREFIXES = 12, 2


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
    largest, prefixes, draws = 0.0, 0, []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        samples = draw_samples(model, rng)
        draws.append(samples)
        lengths = rng.integers(1, samples.shape[1] + 1, len(samples))
        lengths[0] = samples.shape[1]
        found, compared = _compare(model, stepped, samples, lengths, rng)
        largest, prefixes = max(largest, found), prefixes + compared
    noise = rounding_noise(model, draws, stepped.causal)
    return Certificate(largest, tolerance_for(noise), prefixes, SEQUENCES * len(seeds), seeds, stepped.buckets, noise)


def spot(model: Any, stepped: Any) -> float:
    """The largest difference over a few sequences, through the buckets that are ready: `certify` for every start."""
    rng = np.random.default_rng(0)
    samples = draw_samples(model, rng)[:, :SPOT_LENGTH]
    return _compare(model, stepped, samples, np.full(len(samples), samples.shape[1]), rng, SPOT_PREFIXES)[0]


def _compare(
    model: Any,
    stepped: Any,
    samples: Floats,
    lengths: NDArray[np.int64],
    rng: np.random.Generator,
    count: int = PREFIXES,
) -> tuple[float, int]:
    """The largest difference over all prefixes of sequences that end after `lengths`, and how many those are."""
    largest, prefixes = 0.0, 0
    sequences = [row[:length] for row, length in zip(samples, lengths, strict=True)]
    answers = run_interleaved(stepped, sequences, stepped.buckets, rng)
    for length, expected in expected_answers(model, stepped.causal, samples, count):
        alive = np.flatnonzero(lengths >= length)
        stepped_answers = np.stack([answers[row][length - 1, : stepped.probabilities] for row in alive])
        largest = max(largest, difference(stepped_answers, expected[alive], stepped.mean_of_none))
        prefixes += len(alive)
    return largest, prefixes


def rounding_noise(model: Any, draws: Sequence[Floats], causal: bool = True) -> float:
    """How far a Keras model's answers move when XLA compiles it as a whole: no part of stepping is involved.

    Args:
        model: the Keras model.
        draws: each `(sequences, time, features)` float32, of one shape.
        causal: whether it answers every timestep with all its outputs. Otherwise it is asked for the same prefixes as
            in the comparison: at the end of a sequence it may be so sure that nothing moves its answer any more.

    Returns:
        The largest difference of an answer; 0 when XLA cannot compile the model.
    """
    import tensorflow as tf

    time = draws[0].shape[1]
    try:
        return max(
            _noise_at(model, [samples[:, :length] for samples in draws])
            for length in ([time] if causal else prefix_lengths(time))
        )
    except (tf.errors.OpError, NotImplementedError, TypeError, ValueError):  # what TensorFlow says of what XLA lacks
        return 0.0


def _noise_at(model: Any, draws: Sequence[Floats]) -> float:
    """`rounding_noise` of whole sequences."""
    import keras
    import tensorflow as tf

    keras_model = _accepting(model, draws[0].shape)

    def answer(inputs: Any) -> list[Any]:
        return keras.tree.flatten(keras_model(inputs, training=False))

    given = [keras.tree.map_structure(tf.constant, inputs_of(keras_model, samples)) for samples in draws]
    compiled = tf.function(answer, jit_compile=True, autograph=False).get_concrete_function(given[0])
    largest = 0.0
    for inputs in given:
        pairs = zip(compiled(inputs), answer(inputs), strict=True)
        # What is NaN in both is no noise; the comparison with stepping finds it.
        largest = max(largest, *(difference(*_without_common_nan(np.asarray(a), np.asarray(b))) for a, b in pairs))
    return largest


def prefix_lengths(time: int, count: int = PREFIXES) -> list[int]:
    """Lengths from 1 to `time`, at which a model that answers a whole sequence is asked: each costs a call of Keras."""
    return sorted(set(np.linspace(1, time, count).astype(int).tolist()))


def expected_answers(model: Any, causal: bool, samples: Floats, count: int = PREFIXES) -> Iterator[tuple[int, Floats]]:
    """Keras' answers for prefixes of sequences.

    A model that answers every timestep gives those of all prefixes in one call. One that answers a whole sequence is
    called for `count` lengths.

    Args:
        model: the Keras model.
        causal: whether it answers every timestep with all its outputs.
        samples: `(sequences, time, features)` float32.
        count: of prefixes, where each is a call.

    Yields:
        Length of the prefix and answers `(sequences, outputs)`.
    """
    time = samples.shape[1]
    if causal:
        answers = np.concatenate(_answers(model, samples), axis=2)
        yield from ((length, answers[:, length - 1]) for length in range(1, time + 1))
        return
    for length in prefix_lengths(time, count):
        heads = _answers(model, samples[:, :length])
        yield length, np.concatenate([head[:, -1] if head.ndim == 3 else head for head in heads], axis=1)


def draw_samples(model: Any, rng: np.random.Generator) -> Floats:
    """Random sequences `(SEQUENCES, time, features)` float32, in the range that the model was made for.

    Behind a Normalization layer they are distributed as what it was adapted to; for an Embedding they are rows of its
    table; for a Masking layer a part of the timesteps, the first ones of some sequences too, carry its mask value.
    """
    from worker.model.graph import StepGraph

    features, fixed = columns_of(model)[-1].stop, model.inputs[0].shape[1]
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
    for columns, rows in StepGraph(model).vocabularies:
        samples[:, :, columns.start : columns.stop : columns.step] = rng.integers(0, rows, (*shape[:2], len(columns)))
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
    garbage, kind = np.nan, stepped.initial_state.dtype
    states = np.full((len(streams), stepped.state_size), garbage, kind)
    done = np.zeros(len(streams), int)
    while waiting := [k for k, stream in enumerate(streams) if done[k] < len(stream)]:
        depth, width = buckets[int(rng.integers(len(buckets)))]
        chosen = rng.permutation(waiting)[: rng.integers(1, min(len(waiting), width) + 1)]
        rows = rng.permutation(width)[: len(chosen)]
        inputs = np.full((depth, width, stepped.features), np.nan, np.float32)
        mask, reset = np.zeros((depth, width), bool), np.zeros((depth, width), bool)
        block_states = np.full((width, stepped.state_size), garbage, kind)
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


def difference(stepped: Floats, expected: Floats, mean_of_none: bool = False) -> float:
    """The largest absolute difference; infinite where one is no number.

    Args:
        stepped: answers.
        expected: Keras' answers.
        mean_of_none: where Keras answers NaN, a number is right: the model pools over timesteps that are not masked,
            and Keras divides 0 by 0 as long as all are.
    """
    if mean_of_none:
        expected = np.where(np.isnan(expected), stepped, expected)
    largest = float(np.max(np.abs(stepped - expected)))
    return largest if np.isfinite(largest) else float("inf")


def _without_common_nan(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Both, with 0 where both are NaN."""
    common = np.isnan(one) & np.isnan(other)
    return np.where(common, np.float32(0), one), np.where(common, np.float32(0), other)


def _accepting(model: Any, shape: tuple[int, ...]) -> Any:
    """The model, or when its batch size or length is fixed to another one, the same layers on free axes."""
    import keras

    inputs = model.inputs
    if all(tensor.shape[0] in (None, shape[0]) and tensor.shape[1] in (None, shape[1]) for tensor in inputs):
        return model
    free = [keras.Input((shape[1], *tensor.shape[2:]), dtype=tensor.dtype) for tensor in inputs]
    clone = keras.models.clone_model(model, input_tensors=free[0] if len(free) == 1 else free)
    clone.set_weights(model.get_weights())
    return clone


def _answers(model: Any, samples: Floats) -> list[Floats]:
    """What Keras answers, one array for each output."""
    import keras

    accepting = _accepting(model, samples.shape)
    answers = keras.tree.flatten(accepting(inputs_of(accepting, samples), training=False))
    return [np.asarray(answer) for answer in answers]


def _flat_layers(model: Any) -> Iterator[Any]:
    """All layers, those of nested models in their place."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat_layers(layer)
        else:
            yield layer
