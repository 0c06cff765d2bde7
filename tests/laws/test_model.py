"""Laws of the stepped model: it answers what Keras answers for the sequence so far, however blocks are cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.known_models import FEATURES, MODELS, TOLERANCE  # noqa: E402
from tests.laws.streamed import with_random_weights  # noqa: E402
from worker.model.parity import certify  # noqa: E402
from worker.model.step_model import StepModel  # noqa: E402

L = keras.layers


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")  # a nested Sequential
@pytest.mark.parametrize("name", MODELS)
def test_every_prefix_gets_the_answer_of_keras_however_it_is_cut(name: str) -> None:
    model = MODELS[name]()
    certificate = certify(model, StepModel(model), seeds=(1,))
    assert certificate.largest_difference <= TOLERANCE, certificate
    assert certificate.prefixes > 30


RECURRENT = st.builds(
    lambda layer, units, activation, bias, sequences: (
        lambda last: layer(
            units, activation=activation, use_bias=bias, return_sequences=sequences or not last, bias_initializer="ones"
        )
    ),
    st.sampled_from([L.LSTM, L.GRU, L.SimpleRNN]),
    st.integers(1, 9),
    st.sampled_from(["tanh", "sigmoid", "softsign", "elu"]),
    st.booleans(),
    st.booleans(),
)
PER_TIMESTEP = st.sampled_from(
    [
        lambda _: L.Dense(4, activation="swish"),
        lambda _: L.LayerNormalization(),
        lambda _: L.LeakyReLU(0.3),
        lambda _: L.PReLU(shared_axes=[1]),
        lambda _: L.TimeDistributed(L.Dense(3)),
        lambda _: L.Normalization(axis=None),
        lambda _: L.Dropout(0.4),
    ]
)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    masked=st.booleans(),
    before=st.lists(st.one_of(RECURRENT, PER_TIMESTEP), max_size=3),
    last=RECURRENT,
    classes=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_stack_of_layers_equals_keras(masked: bool, before: list[Any], last: Any, classes: int, seed: int) -> None:
    layers = [L.Masking(0.0)] if masked else []
    layers += [make(False) for make in before]
    layers += [last(True), L.Dense(classes, activation="sigmoid" if classes == 1 else "softmax")]
    model = with_random_weights(keras.Sequential([keras.Input((None, FEATURES)), *layers]), seed)
    certificate = certify(model, StepModel(model), seeds=(seed,))
    assert certificate.largest_difference <= TOLERANCE, (certificate, [layer.get_config() for layer in layers])
