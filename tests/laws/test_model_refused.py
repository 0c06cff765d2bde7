"""What cannot be stepped is refused by the layer's name, with the reason and what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker.errors import NotStreamable
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import functional, sequential  # noqa: E402
from worker.model.graph import StepGraph  # noqa: E402

L = keras.layers
FEATURES = 3
ODD = {"name": "odd"}

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")


@keras.saving.register_keras_serializable("tests")
class Custom(L.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs


class OwnDense(L.Dense):
    """A subclass may do anything in `call`."""


class OwnCell(L.GRUCell):
    """The same of a cell."""


class Subclassed(keras.Model):
    def call(self, inputs: Any) -> Any:
        return inputs


def halved(inputs: Any) -> Any:
    return keras.ops.mean(inputs, axis=1, keepdims=True)


def attended(layer: Any, **arguments: Any) -> Callable[[], Any]:
    return lambda: functional(lambda x: layer(x, x, **arguments), time=5)


def from_state(inputs: Any) -> Any:
    _, state = L.GRU(2, return_state=True)(inputs)
    return L.GRU(2, return_sequences=True, **ODD)(inputs, initial_state=state)


def masked_attention(inputs: Any) -> Any:
    x = L.Masking()(inputs)
    return L.MultiHeadAttention(1, 2, sliding_window=2, **ODD)(x, x, use_causal_mask=True)


def padded(*layers: Any) -> Callable[[], Any]:
    return lambda: sequential(L.ZeroPadding1D((2, 0)), *layers)


MHA = L.MultiHeadAttention
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "bidirectional": (
        lambda: sequential(L.Bidirectional(L.LSTM(2, return_sequences=True), **ODD)),
        "end of the sequence",
        "forward",
    ),
    "backwards": (lambda: sequential(L.LSTM(2, go_backwards=True, **ODD)), "go_backwards", "go_backwards=False"),
    "stateful": (
        lambda: keras.Sequential([keras.Input(batch_shape=(1, None, 3)), L.GRU(2, stateful=True, **ODD)]),
        "stateful=True",
        "stateful=False",
    ),
    "initial state": (lambda: functional(from_state), "initial_state", "one tensor"),
    "flatten": (lambda: sequential(L.Flatten(**ODD), time=5), "joins all timesteps", "return_sequences=False"),
    "lambda": (lambda: sequential(L.Lambda(lambda x: x, **ODD)), "code", "Keras layer"),
    "same padding": (lambda: sequential(L.Conv1D(2, 3, padding="same", **ODD)), "future", "ZeroPadding1D((2, 0))"),
    "no padding": (lambda: sequential(L.Conv1D(2, 3, **ODD)), "moves its answers", "padding='causal'"),
    "too much padding": (padded(L.AveragePooling1D(2, strides=1, **ODD)), "moves its answers", "((1, 0))"),
    "padded twice": (padded(L.Conv1D(2, 3, padding="causal", **ODD)), "pads twice", "((2, 0))"),
    "dilated without padding": (lambda: sequential(L.SeparableConv1D(2, 3, dilation_rate=2, **ODD)), "5", "((4, 0))"),
    "padding for nothing": (padded(L.Dense(2, **ODD)), "stands between", "right before"),
    "padding after": (lambda: sequential(L.ZeroPadding1D((1, 1), **ODD)), "after the sequence", "((n, 0))"),
    "strides": (padded(L.MaxPooling1D(3, **ODD)), "strides=3", "strides=1"),
    "channels first": (
        lambda: sequential(L.DepthwiseConv1D(2, data_format="channels_first", **ODD), time=5),
        "before time",
        "channels_last",
    ),
    "pooling of neighbours": (lambda: sequential(L.AdaptiveAveragePooling1D(2, **ODD), time=4), "pools", "Pooling1D"),
    "pooling over all axes": (
        lambda: sequential(L.Reshape((-1, 1, 3)), L.GlobalAveragePooling2D(**ODD)),
        "neighbouring timesteps",
        "TimeDistributed",
    ),
    "group norm": (lambda: sequential(L.GroupNormalization(1, **ODD), time=5), "all timesteps", "TimeDistributed"),
    "repeat": (lambda: sequential(L.LSTM(2), L.RepeatVector(3, **ODD)), "whole sequence", "one timestep"),
    "up": (lambda: sequential(L.UpSampling1D(2, **ODD)), "several timesteps", "one timestep"),
    "cropping": (lambda: sequential(L.Cropping1D(1, **ODD), time=9), "removes timesteps", "before training"),
    "reshape": (lambda: sequential(L.Reshape((15,), **ODD), time=5), "between timesteps", "Reshape((-1, ...))"),
    "permute": (lambda: sequential(L.Permute((2, 1), **ODD), time=5), "place of time", "Begin dims with 1"),
    "unbounded attention": (attended(MHA(1, 2, **ODD), use_causal_mask=True), "grow", "sliding_window=n"),
    "attention of the future": (attended(MHA(1, 2, sliding_window=2, **ODD)), "whole sequence", "use_causal_mask=True"),
    "attention with scores": (
        attended(MHA(1, 2, sliding_window=2, **ODD), use_causal_mask=True, return_attention_scores=True),
        "return_attention_scores",
        "nothing else",
    ),
    "attention of a list": (
        lambda: functional(lambda x: L.Attention(**ODD)([x, x])),
        "whole sequence",
        "sliding_window=n",
    ),
    "masked attention": (lambda: functional(masked_attention), "future included", "before the Masking"),
    "dot": (lambda: functional(lambda x: L.Dot(axes=2, **ODD)([x, x]), time=5), "every other", "EinsumDense"),
    "concatenate over time": (
        lambda: functional(lambda x: L.Concatenate(axis=1, **ODD)([x, x]), time=5),
        "time axis",
        "axis=-1",
    ),
    "merge with the whole": (
        lambda: functional(lambda x: L.Add(**ODD)([x, L.GlobalMaxPooling1D(keepdims=True)(x)])),
        "its end included",
        "merge last outputs only",
    ),
    "einsum over time": (
        lambda: sequential(L.EinsumDense("abc,bd->adc", output_shape=(4, 3), **ODD), time=5),
        "leave axis 1",
        "Keep the label",
    ),
    "bias over time": (
        lambda: sequential(L.EinsumDense("abc,cd->abd", output_shape=(5, 3), bias_axes="bd", **ODD), time=5),
        "leave axis 1",
        "the bias",
    ),
    "custom": (lambda: sequential(Custom(**ODD)), "nothing is known", "@per_timestep_layer"),
    "subclass": (lambda: sequential(OwnDense(2, **ODD)), "nothing is known", "layers that stream"),
    "own cell": (lambda: sequential(L.RNN(OwnCell(2), **ODD)), "OwnCell", "@recurrent_cell"),
    "own cell in a stack": (lambda: sequential(L.RNN([L.GRUCell(2), OwnCell(2)], **ODD)), "OwnCell", "docs/models.md"),
    "norm over time": (lambda: sequential(L.LayerNormalization(axis=1, **ODD), time=5), "time axis", "axis=-1"),
    "norm of time": (lambda: sequential(L.Normalization(axis=(1, 2), **ODD), time=5), "time axis", "axis=-1"),
    "batch norm of time": (lambda: sequential(L.BatchNormalization(axis=1, **ODD), time=5), "time axis", "axis=-1"),
    "softmax over time": (lambda: sequential(L.Softmax(axis=-2, **ODD)), "time axis", "axis=-1"),
    "softmax of a mask": (lambda: sequential(L.Masking(), L.Softmax(**ODD)), "mask", "Activation('softmax')"),
    "slopes over time": (lambda: sequential(L.PReLU(**ODD), time=5), "every timestep", "shared_axes=[1]"),
    "own activation": (lambda: sequential(L.Dense(2, activation=halved, **ODD)), "halved", "activation of Keras"),
    "own activation of a convolution": (lambda: sequential(L.Conv1D(2, 1, activation=halved, **ODD)), "halved", "name"),
    "half precision": (lambda: sequential(L.LSTM(2, dtype="mixed_float16", **ODD)), "mixed_float16", "float32"),
    "wrapped": (lambda: sequential(L.TimeDistributed(OwnDense(2, name="odd"))), "nothing is known", "Register"),
    "training": (
        lambda: functional(lambda x: L.Dropout(0.5, **ODD)(x, training=True)),
        "training",
        "nothing else",
    ),
    "batch norm in training": (
        lambda: functional(lambda x: L.BatchNormalization(**ODD)(x, training=True)),
        "training",
        "nothing else",
    ),
    "mask of an embedding of several": (
        lambda: sequential(L.Embedding(4, 2, mask_zero=True, **ODD)),
        "3 axes",
        "keras.Input((None,))",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_future_is_refused_by_name_with_the_remedy(name: str) -> None:
    build, reason, remedy = REFUSED[name]
    with pytest.raises(NotStreamable) as refused:
        StepGraph(build())
    words = str(refused.value)
    assert "'odd'" in words
    assert reason in words
    assert remedy in words


@pytest.mark.parametrize(
    ("operate", "words"),
    [
        (lambda x: keras.ops.mean(x, axis=1, keepdims=True), "time axis"),
        (lambda x: keras.ops.sum(x, axis=0), "batch axis"),
        (lambda x: x[:, ::2], "chooses among timesteps"),
        (lambda x: x[:, -1], "chooses among timesteps"),
        (lambda x: keras.ops.concatenate([x, x], axis=1), "time axis"),
        (lambda x: keras.ops.expand_dims(x, axis=1), "moves the axis of time"),
        (lambda x: keras.ops.cumsum(x, axis=1), "no rule says"),
        (lambda x: x + np.ones((5, 3), np.float32), "outside the model"),
        (lambda x: x + keras.layers.GlobalMaxPooling1D(keepdims=True)(x), "its end included"),
    ],
)
def test_an_operation_that_looks_along_time_is_refused(operate: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(NotStreamable, match=words):
        StepGraph(functional(operate, time=5))


def two_inputs() -> Any:
    """One sequence, and a description of all of it."""
    one, other = keras.Input((None, 2)), keras.Input((4,))
    return keras.Model([one, other], [L.Dense(1)(one), L.Dense(1)(other)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (two_inputs, "every one of its samples"),
        (lambda: keras.Sequential([L.Dense(2)]), "keras.Input"),
        (Subclassed, "code of its own"),
        (lambda: sequential(L.Identity(), features=None), "fixed number of features"),
        (lambda: keras.Sequential([keras.Input((4,)), L.Dense(2)]), "expected inputs (batch, time, features)"),
        (lambda: sequential(L.LSTM(2), L.Reshape((1, 2))), "expected (batch, time, classes)"),
        (lambda: sequential(L.LSTM(2), L.Reshape((1, 2)), L.GRU(2)), "returns only its last output"),
        (lambda: sequential(L.ZeroPadding1D((2, 0))), "expected (batch, time, classes)"),
        (lambda: keras.Sequential([keras.Input((None, 2), dtype="float64"), L.Dense(2)]), "float64"),
    ],
)
def test_a_model_of_another_form_is_refused(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(NotStreamable) as refused:
        StepGraph(build())
    assert words in str(refused.value)
