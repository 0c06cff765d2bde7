"""1b, 2b, 2c, 2d and 4c on a real Apache Kafka: after every sample the worker says what Keras says of the prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.brokers.fixtures import TestCluster
from tests.training.served import serve
from training.datasets import load
from training.experiments import explicit_state, partial_sequences, series_classifiers, streaming
from training.networks import Scaling
from worker.artifact import write_artifact
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

from tests.laws.streamed import with_random_weights  # noqa: E402 - after the set-up

SEED, STREAMS = 0, 12
Floats = NDArray[np.float32]


def labelled_timesteps() -> tuple[Any, Floats]:
    """1b, a label for every timestep."""
    network = partial_sequences.network((8, 6, 4), per_timestep=True)
    return network, partial_sequences.sequences(STREAMS, 30, SEED)[0]


def stateful_twins() -> tuple[Any, Floats]:
    """2b, whose last LSTM returns its last output."""
    return streaming.network(), streaming.sequences(STREAMS, SEED)[0]


def explicit_states() -> tuple[Any, Floats]:
    """2c, the model that was trained."""
    return explicit_state.networks()[0], streaming.sequences(STREAMS, SEED)[0]


def series() -> tuple[Any, Floats]:
    """4c, causal convolutions that an LSTM reads."""
    inputs = np.stack(load("basic-motions").inputs[:STREAMS])[:, ::5]  # (streams, 20, 6)
    return series_classifiers.network("CNN-LSTM", Scaling.of(tuple(inputs)), 4, 6, 6), inputs


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("made", [labelled_timesteps, stateful_twins, explicit_states, series])
def test_the_worker_answers_from_a_topic_as_keras_would(
    kafka: TestCluster, tmp_path: Path, made: Callable[[], tuple[Any, Floats]]
) -> None:
    network, inputs = made()
    model = with_random_weights(network, SEED)  # what is asked is whether both say the same
    features = tuple(f"x{i}" for i in range(inputs.shape[2]))
    classes = tuple(f"y{i}" for i in range(model.output_shape[-1]))
    artifact = write_artifact(model, tmp_path / "artifact", features=features, classes=classes)
    said = serve(kafka, tmp_path / "artifact", inputs, classes, tmp_path)
    for t in range(inputs.shape[1]):
        prefix = model.predict(inputs[:, : t + 1], verbose=0)
        expected = prefix if prefix.ndim == 2 else prefix[:, -1]
        np.testing.assert_allclose(said[:, t], expected, rtol=0, atol=artifact.manifest.parity.tolerance)


@pytest.mark.broker
@pytest.mark.slow
def test_records_of_any_length_say_bit_for_bit_what_single_samples_do(kafka: TestCluster, tmp_path: Path) -> None:
    """2d: each stream is cut in a way of its own."""
    network, inputs = explicit_states()
    model = with_random_weights(network, SEED)
    write_artifact(model, tmp_path / "artifact", features=streaming.FEATURES, classes=("first",))
    cuts = explicit_state.all_cuts()[:: 64 // STREAMS][:STREAMS]
    said = [
        serve(kafka, tmp_path / "artifact", inputs, ("first",), directory, cuts=own)
        for directory, own in ((tmp_path / "samples", None), (tmp_path / "chunks", cuts))
        if not directory.mkdir()
    ]
    np.testing.assert_array_equal(*said)
