"""4d on a real Apache Kafka: the worker filters labels from topic to topic, and its events give the best path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.brokers.fixtures import TestCluster
from tests.training.served import serve
from training.crf import best_path
from training.experiments.labelled_timesteps import CLASSES, FEATURES, machines, network
from worker.artifact import write_artifact
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

from tests.laws.streamed import with_random_weights  # noqa: E402 - after the set-up

SEED, STREAMS = 0, 12


@pytest.mark.broker
@pytest.mark.slow
def test_the_worker_filters_labels_from_a_topic_as_keras_would(kafka: TestCluster, tmp_path: Path) -> None:
    model = with_random_weights(network(8, crf=True), SEED)  # what is asked is whether both say the same
    artifact = write_artifact(model, tmp_path / "artifact", features=FEATURES, classes=CLASSES)
    sensors, _ = machines(STREAMS, SEED)
    said = serve(kafka, tmp_path / "artifact", sensors, CLASSES, tmp_path)
    whole = model.predict(sensors, verbose=0)
    np.testing.assert_allclose(said, whole, rtol=0, atol=artifact.manifest.parity.tolerance)
    transitions = np.asarray(model.get_layer("labels").transitions)
    for events, answers in zip(said, whole, strict=True):
        assert best_path(events, transitions).tolist() == best_path(answers, transitions).tolist(), f"seed {SEED}"
