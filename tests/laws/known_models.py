"""Models of every kind that can be stepped, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import functional, sequential, with_random_weights  # noqa: E402
from worker.model.keras_file import model_bytes, open_model  # noqa: E402

L = keras.layers
FEATURES = 3
TOLERANCE = 1e-6  # of random weights, whatever a certificate would forgive


def shared(inputs: Any) -> Any:
    """One layer, called twice: one set of weights, two states."""
    both = L.GRU(FEATURES, return_sequences=True, name="both")
    return L.Dense(2, activation="softmax")(both(both(inputs)))


def nested(inputs: Any) -> Any:
    inner = keras.Sequential([keras.Input((None, FEATURES)), L.LSTM(4, return_sequences=True), L.Dense(3)])
    return L.Dense(2, activation="softmax")(L.SimpleRNN(4, return_sequences=True)(inner(inputs)))


def encoder(inputs: Any) -> Any:
    _, _, cell_state = L.LSTM(4, return_state=True)(inputs)
    return L.Dense(1, activation="sigmoid")(cell_state)


def masked_nested(inputs: Any) -> Any:
    inner = keras.Sequential([keras.Input((None, FEATURES)), L.GRU(4, return_sequences=True), L.Dense(3)])
    return L.Dense(1, activation="sigmoid")(L.LSTM(4, return_sequences=True)(inner(L.Masking(-1.0)(inputs))))


SOFTMAX = {"activation": "softmax"}
MODELS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: sequential(L.LSTM(5, return_sequences=True), L.Dense(2, **SOFTMAX)),
    "lstm, gates apart": lambda: sequential(L.LSTM(5, return_sequences=True, implementation=1), L.Dense(2, **SOFTMAX)),
    "lstm, other activations": lambda: sequential(
        L.LSTM(5, return_sequences=True, activation="softsign", recurrent_activation="hard_sigmoid", use_bias=False),
        L.Dense(2, **SOFTMAX),
    ),
    "lstm, dropout": lambda: sequential(
        L.LSTM(5, return_sequences=True, dropout=0.5, recurrent_dropout=0.5), L.Dropout(0.5), L.Dense(2, **SOFTMAX)
    ),
    "gru": lambda: sequential(L.GRU(5, return_sequences=True), L.Dense(2, **SOFTMAX)),
    "gru, reset before": lambda: sequential(L.GRU(5, return_sequences=True, reset_after=False), L.Dense(2, **SOFTMAX)),
    "simple": lambda: sequential(L.SimpleRNN(5, return_sequences=True, activation="gelu"), L.Dense(2, **SOFTMAX)),
    "stack, last output only": lambda: sequential(
        L.LSTM(5, return_sequences=True), L.GRU(4), L.LayerNormalization(), L.Dense(1, activation="sigmoid")
    ),
    "per timestep": lambda: sequential(
        L.Normalization(),
        L.Dense(6, activation="tanh"),
        L.LSTM(4, return_sequences=True),
        L.LayerNormalization(),
        L.TimeDistributed(L.Dense(5)),
        L.LeakyReLU(),
        L.TimeDistributed(L.Softmax()),
        L.GaussianNoise(0.1),
        L.SpatialDropout1D(0.2),
        L.PReLU(shared_axes=[1]),
        L.ELU(),
        L.ReLU(max_value=2.0),
        L.SimpleRNN(3, return_sequences=True),
        L.Activation("elu"),
        L.Dense(2),
        L.Softmax(),
    ),
    "no state": lambda: sequential(L.Dense(4, activation="relu"), L.Dense(1, activation="sigmoid")),
    "masked": lambda: sequential(
        L.Masking(mask_value=-1.0),
        L.Normalization(),
        L.LSTM(4, return_sequences=True),
        L.Dropout(0.1),
        L.GRU(3, return_sequences=True, zero_output_for_mask=True),
        L.Dense(2, **SOFTMAX),
    ),
    "masked, last output only": lambda: sequential(
        L.Masking(), L.SimpleRNN(4, return_sequences=True), L.LSTM(3), L.Dense(1, activation="sigmoid")
    ),
    "masked, last output zeroed": lambda: sequential(
        L.Masking(), L.LSTM(3, zero_output_for_mask=True), L.Dense(1, activation="sigmoid")
    ),
    "fixed length, unrolled": lambda: sequential(
        L.Masking(), L.LSTM(4, unroll=True), L.Dense(1, activation="sigmoid"), time=7
    ),
    "fixed length": lambda: sequential(L.GRU(4, return_sequences=True), L.Dense(2, **SOFTMAX), time=7),
    "fixed batch": lambda: with_random_weights(
        keras.Sequential([keras.Input(batch_shape=(1, None, FEATURES)), L.GRU(4), L.Dense(2, **SOFTMAX)])
    ),
    "called twice": lambda: functional(shared),
    "nested": lambda: functional(nested),
    "masked, nested": lambda: functional(masked_nested),
    "state as output": lambda: functional(encoder),
    "masked, saved and opened": lambda: open_model(model_bytes(functional(masked_nested)), "model"),
}
