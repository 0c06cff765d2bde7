"""3e on a real Apache Kafka: the worker says every value again, one sample later, from topic to topic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.brokers.fixtures import TestCluster
from tests.training.served import serve
from training.experiments.echo import encode, fresh
from training.experiments.echo_extensions import names, streamable
from training.experiments.experiment import Setup
from worker.artifact import write_artifact

SEED, STREAMS = 0, 12


@pytest.mark.broker
@pytest.mark.slow
def test_the_worker_echoes_from_a_topic_as_keras_would(kafka: TestCluster, tmp_path: Path) -> None:
    model, alphabet = streamable(Setup(quick=True, seed=SEED, directory=tmp_path))
    features, classes = names(alphabet)
    artifact = write_artifact(model, tmp_path / "artifact", features=features, classes=classes)
    values = fresh(STREAMS, alphabet, SEED + 9)
    inputs = encode(values, alphabet)  # (streams, timesteps, alphabet)
    said = serve(kafka, tmp_path / "artifact", inputs, classes, tmp_path)
    np.testing.assert_allclose(said, model.predict(inputs, verbose=0), rtol=0, atol=artifact.manifest.parity.tolerance)
    assert (said[:, 1:].argmax(axis=-1) == values[:, :-1]).mean() >= 0.99, f"seed {SEED}"
