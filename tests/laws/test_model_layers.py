"""Every layer that has a rule answers what Keras answers, for every prefix, however its samples are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import functional, largest_difference, sequential, with_random_weights  # noqa: E402
from worker.model.keras_file import model_bytes, open_model  # noqa: E402
from worker.model.layers.pooling import WORD  # noqa: E402
from worker.model.step_model import StepModel  # noqa: E402

L = keras.layers
TOLERANCE = 1e-6
SEQUENCES = {"return_sequences": True}
SOFTMAX = {"activation": "softmax"}

# Keras warns where a layer drops a mask, which some models here do on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")


def head(layer: Any = None) -> list[Any]:
    """What a stack ends with."""
    return [] if layer is None else [layer, L.Dense(2, **SOFTMAX)]


def causal_by_padding(inputs: Any) -> Any:
    """Every window behind its own padding, and one padding for two of them."""
    x = L.Conv1D(4, 2, padding="valid", activation="tanh")(L.ZeroPadding1D((1, 0))(inputs))
    x = L.SeparableConv1D(4, 3, depth_multiplier=2)(L.ZeroPadding1D((2, 0))(x))
    padded = L.ZeroPadding1D((3, 0))(L.Dropout(0.1)(x))
    x = L.Add()([L.DepthwiseConv1D(4)(padded), L.AveragePooling1D(4, strides=1)(L.Identity()(padded))])
    x = L.MaxPooling1D(2, strides=1)(L.ZeroPadding1D((1, 0))(x))
    return L.Dense(2, **SOFTMAX)(x)


def attending(layer: Any, second: bool = False) -> Callable[[], Any]:
    def build(inputs: Any) -> Any:
        x = L.Dense(4)(inputs)
        key = {"key": L.Dense(4, activation="tanh")(inputs)} if second else {}
        return L.Dense(2, **SOFTMAX)(L.Add()([x, layer(x, L.Dense(4)(inputs), use_causal_mask=True, **key)]))

    return lambda: functional(build)


def branches(inputs: Any) -> Any:
    """Every merge, masked in one branch and in both, and masked by different values."""
    one = L.LSTM(3, **SEQUENCES)(L.Masking(-1.0)(inputs))
    two = L.GRU(3, **SEQUENCES)(L.Masking(0.0)(inputs))
    free = L.Dense(3)(inputs)
    merged = [kind()(pair) for kind in (L.Add, L.Subtract, L.Multiply, L.Average) for pair in ([one, two],)]
    merged += [kind()(trio) for kind in (L.Maximum, L.Minimum) for trio in ([one, two], [one, free, two])]
    joined = L.Concatenate()([*merged, free])
    after = L.GRU(3, **SEQUENCES)(joined)  # by the mask of all of them
    lasts = L.SimpleRNN(3, **SEQUENCES)(L.Maximum()([one, two]))
    return L.Dense(2, **SOFTMAX)(L.Concatenate()([after, lasts]))


def last_outputs(inputs: Any) -> Any:
    one, two = L.LSTM(3)(inputs), L.GRU(3)(inputs)
    mean, largest = L.GlobalAveragePooling1D()(inputs), L.GlobalMaxPooling1D()(inputs)
    return L.Dense(2, **SOFTMAX)(L.Concatenate()([L.Dot(axes=1)([one, two]), L.Multiply()([mean, largest])]))


def operations(inputs: Any) -> Any:
    x = L.Dense(3, activation="tanh")(inputs)
    x = keras.ops.tanh(x + 0.5 * inputs) - inputs[:, :, 1:2] / 3.0
    x = keras.ops.concatenate([x, keras.ops.mean(x, axis=-1, keepdims=True)], axis=-1)
    return L.Dense(2, **SOFTMAX)(keras.ops.maximum(x, inputs[..., :1]))


def own_mask(inputs: Any) -> Any:
    mask = keras.ops.any(keras.ops.greater(inputs, -0.5), axis=-1)
    return L.Dense(2, **SOFTMAX)(L.LSTM(3, **SEQUENCES)(inputs, mask=mask))


def pictures(inputs: Any) -> Any:
    """A small picture in every timestep."""
    inner = keras.Sequential([keras.Input((4, 3, 1)), L.Conv2D(2, 2, activation="relu"), L.Flatten()])
    x = L.Reshape((-1, 4, 3, 1))(inputs)
    y = L.TimeDistributed(L.MaxPooling2D(2))(L.Permute((1, 3, 2, 4))(x))
    x = L.Concatenate()([L.TimeDistributed(inner)(x), L.TimeDistributed(L.Flatten())(y)])
    return L.Dense(2, **SOFTMAX)(L.GRU(3, **SEQUENCES)(x))


def several_inputs() -> Any:
    word, load, kind = keras.Input((None,), dtype="int32"), keras.Input((None, 2)), keras.Input((None,))
    x = L.Concatenate()([L.Embedding(7, 3)(word), load, L.Embedding(5, 2, mask_zero=True)(kind)])
    return with_random_weights(keras.Model([word, load, kind], L.Dense(2, **SOFTMAX)(L.LSTM(4, **SEQUENCES)(x))))


def named_inputs() -> Any:
    word, load = keras.Input((None,), name="z"), keras.Input((None, 2), name="a")
    x = L.Concatenate()([L.Embedding(7, 3)(word), load])
    return with_random_weights(keras.Model({"z": word, "a": load}, {"out": L.Dense(1, activation="sigmoid")(x)}))


def several_outputs() -> Any:
    inputs = keras.Input((None, 3))
    x = L.LSTM(4, **SEQUENCES)(inputs)
    outputs = [L.Dense(2, name="gesture", **SOFTMAX)(x), L.Dense(1, name="alarm", activation="sigmoid")(L.GRU(2)(x))]
    return with_random_weights(keras.Model(inputs, outputs))


def spatial(layer: Any, masked: bool = False) -> Any:
    masking = [L.Masking(0.5)] if masked else []
    shape = (3, 1) if isinstance(layer, L.ConvLSTM1D) else (3, 1, 1)
    after = [L.TimeDistributed(L.Flatten())] if layer.return_sequences else [L.Flatten()]
    return sequential(*masking, L.TimeDistributed(L.Reshape(shape)), layer, *after, *head(L.Dense(2)))


CELLS: dict[str, Callable[[], Any]] = {
    "one cell": lambda: L.RNN(L.LSTMCell(4), **SEQUENCES),
    "gru cell": lambda: L.RNN(L.GRUCell(4, reset_after=False), **SEQUENCES),
    "simple cell, last output": lambda: L.RNN(L.SimpleRNNCell(4)),
    "stacked cells": lambda: L.RNN([L.GRUCell(2), L.LSTMCell(4), L.SimpleRNNCell(3)], **SEQUENCES),
    "stacked cells, lstm last": lambda: L.RNN(L.StackedRNNCells([L.SimpleRNNCell(2), L.LSTMCell(3)]), **SEQUENCES),
    "stacked cells, zeroed": lambda: L.RNN([L.GRUCell(2), L.GRUCell(3)], zero_output_for_mask=True, **SEQUENCES),
    "one stacked cell": lambda: L.RNN(L.StackedRNNCells([L.GRUCell(3)]), **SEQUENCES),
}
MODELS: dict[str, Callable[[], Any]] = {
    **{name: lambda layer=layer: sequential(*head(layer())) for name, layer in CELLS.items()},
    **{  # Keras itself fails on a mask over a stack of one cell
        f"{name}, masked": lambda layer=layer: sequential(L.Masking(), *head(layer()))
        for name, layer in CELLS.items()
        if name != "one stacked cell"
    },
    "convlstm": lambda: spatial(L.ConvLSTM1D(2, 2, padding="same", **SEQUENCES)),
    "convlstm, masked": lambda: spatial(L.ConvLSTM1D(2, 2, **SEQUENCES), masked=True),
    "convlstm of pictures, last output": lambda: spatial(L.ConvLSTM2D(2, (2, 1))),
    "causal": lambda: sequential(L.Conv1D(4, 3, padding="causal", activation="relu"), *head(L.Conv1D(2, 1))),
    "causal, dilated": lambda: sequential(
        *[L.Conv1D(4, 2, padding="causal", dilation_rate=2**k, activation="tanh") for k in range(3)], *head(L.ReLU())
    ),
    "causal, in groups": lambda: sequential(
        L.Dense(4), *head(L.Conv1D(4, 3, padding="causal", groups=2, use_bias=False))
    ),
    "causal, behind a mask": lambda: sequential(L.Masking(0.5), *head(L.Conv1D(3, 4, padding="causal"))),
    "causal by padding": lambda: functional(causal_by_padding),
    "causal, then last output": lambda: sequential(L.Conv1D(4, 3, padding="causal"), *head(L.GRU(3))),
    "running mean": lambda: sequential(L.Dense(4), *head(L.GlobalAveragePooling1D())),
    "running mean, masked": lambda: sequential(L.Masking(), *head(L.GlobalAveragePooling1D())),
    "running maximum": lambda: sequential(L.GRU(4, **SEQUENCES), *head(L.GlobalMaxPooling1D())),
    "running maximum, masked": lambda: sequential(
        L.Masking(0.5), L.LSTM(3, **SEQUENCES), *head(L.GlobalMaxPooling1D())
    ),
    "pooled, axis kept": lambda: sequential(L.GlobalAveragePooling1D(keepdims=True), *head(L.Flatten())),
    "attention": attending(L.MultiHeadAttention(2, 3, value_dim=2, sliding_window=5)),
    "attention, gated, with dropout": attending(
        L.MultiHeadAttention(2, 3, sliding_window=3, use_gate=True, dropout=0.5, output_shape=4), second=True
    ),
    "attention, this timestep only": attending(L.MultiHeadAttention(1, 2, sliding_window=1)),
    "attention, grouped": attending(L.GroupQueryAttention(3, 4, 2, sliding_window=6, use_bias=False)),
    "attention, grouped and gated": attending(L.GroupQueryAttention(3, 2, 1, sliding_window=60, use_gate=True), True),
    "merges": lambda: functional(branches),
    "merges, saved and opened": lambda: open_model(model_bytes(functional(branches)), "model"),
    "merges of last outputs": lambda: functional(last_outputs),
    "operations": lambda: functional(operations),
    "operations, saved and opened": lambda: open_model(model_bytes(functional(operations)), "model"),
    "own mask": lambda: functional(own_mask),
    "own mask, saved and opened": lambda: open_model(model_bytes(functional(own_mask)), "model"),
    "pictures": lambda: functional(pictures, features=12),
    "several inputs": several_inputs,
    "several inputs, saved and opened": lambda: open_model(model_bytes(several_inputs()), "model"),
    "inputs and outputs by name": named_inputs,
    "several outputs": several_outputs,
    "embedding of a feature": lambda: functional(
        lambda x: L.Dense(2, **SOFTMAX)(L.GRU(3, **SEQUENCES)(L.TimeDistributed(L.Flatten())(L.Embedding(9, 2)(x))))
    ),
    "normalized": lambda: sequential(
        L.Normalization(),
        L.Dense(4),
        L.BatchNormalization(),
        L.UnitNormalization(),
        L.RMSNormalization(),
        L.TimeDistributed(L.GroupNormalization(2)),
        L.LayerNormalization(),
        L.Rescaling(0.5, offset=0.1),
        L.AlphaDropout(0.2),
        *head(L.GaussianDropout(0.2)),
        time=9,
    ),
    "normalized behind a mask": lambda: sequential(
        L.Masking(), L.BatchNormalization(), L.UnitNormalization(), L.LayerNormalization(), *head(L.GRU(3, **SEQUENCES))
    ),
    "einsum": lambda: sequential(
        L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de", activation="tanh"),
        L.EinsumDense("...de,def->...f", output_shape=(4,), bias_axes="f"),
        *head(L.EinsumDense("abc,cd->abd", output_shape=(None, 2))),
    ),
    "norm of a few axes": lambda: sequential(
        L.Reshape((-1, 3, 1)), L.LayerNormalization(axis=(2, 3)), L.Reshape((-1, 3)), *head(L.ELU())
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_answers_what_keras_answers(name: str) -> None:
    difference, prefixes = largest_difference(MODELS[name]())
    assert difference <= TOLERANCE
    assert prefixes > 30


@pytest.mark.parametrize("masked", [False, True])
def test_a_running_mean_stays_exact_beyond_what_a_float32_counts_to(masked: bool) -> None:
    model = functional(lambda x: L.GlobalAveragePooling1D()(L.Masking(9.0)(x) if masked else x))
    stepped = StepModel(model)
    names = {slot.name: slice(slot.offset, slot.offset + slot.size) for slot in stepped.layout}
    timesteps, mean = 2**24 + WORD - 1, np.array([0.1, 1000.0, -3.0], np.float32)
    exact = timesteps * mean.astype(np.float64)
    states = np.tile(stepped.initial_state, (64, 1))
    states[:, names["sum"]] = exact
    states[:, names["sum_rest"]] = exact - exact.astype(np.float32)
    states[:, names["count"]] = timesteps % WORD, timesteps // WORD
    mask, sample = np.ones((4, 64), bool), np.array([0.7, 1.0, 2.0], np.float32)
    for k in range(50):
        answers, states = stepped.run_block(np.tile(sample, (4, 64, 1)), mask, ~mask, states)
        expected = (exact + 4 * (k + 1) * sample.astype(np.float64)) / (timesteps + 4 * (k + 1))
        np.testing.assert_allclose(answers[-1, 0], expected, rtol=2e-7)


def test_a_number_that_is_no_row_of_the_table_is_cut_to_the_nearest() -> None:
    model = functional(lambda x: L.TimeDistributed(L.Flatten())(L.Embedding(4, 2)(x)), features=1)
    stepped = StepModel(model)
    mask, inputs = np.ones((1, 64), bool), np.zeros((1, 64, 1), np.float32)
    inputs[0, :6, 0] = [-5, 0.9, 3, 3.9, 4, 1e9]
    answers, _ = stepped.run_block(inputs, mask, mask, np.zeros((64, 0), np.float32))
    np.testing.assert_array_equal(answers[0, :6], model.get_weights()[0][[0, 0, 3, 3, 3, 3]])
