"""The peers: their model is the artifact's, and what answers otherwise is found out. None of them needs to be built."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.peers import programs, row
from tests.bench.peers.check import Samples, compare
from tests.bench.peers.weights import write_weights
from worker.artifact import Artifact
from worker.bench.stage import lstm_artifact
from worker.errors import FatalFault, UsageError
from worker.streaming import StreamingModel


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return lstm_artifact(tmp_path_factory.mktemp("artifact") / "artifact", (5, 4))


def samples_and_answers(model: StreamingModel) -> tuple[Samples, dict[tuple[int, int], tuple[str, int, float]]]:
    """Two interleaved streams of one partition, and what the model says of them."""
    inputs = np.random.default_rng(7).standard_normal((2, 9, 3)).astype(np.float32)
    samples = {f"s{i}": [((0, 2 * t + i), inputs[i, t]) for t in range(9)] for i in range(2)}
    answers = {
        (0, 2 * t + i): (f"s{i}", t, float(probability))
        for i in range(2)
        for t, (probability,) in enumerate(model.run(inputs[i]))
    }
    return samples, answers


def test_the_python_peers_answer_as_the_artifact_does(artifact: Artifact, tmp_path: Path):
    from tests.bench.peers.model import Answers

    model = StreamingModel.load(artifact.directory)
    samples, expected = samples_and_answers(model)
    answers = Answers(write_weights(artifact, tmp_path / "weights"), "abc")
    states: dict[str, bytes] = {}
    found = {}
    for partition, offset in expected:
        stream = f"s{offset % 2}"
        features = dict(samples[stream])[partition, offset].tolist()
        value = json.dumps({"features": features})
        event, states[stream] = answers(stream, value, states.get(stream), partition, offset, 1_700)
        said = json.loads(event)
        assert said["source"] == [partition, offset]
        assert said["sequence"] == f"0-{offset % 2}"
        assert (said["timestamp"], said["model"]) == (1_700, "abc")
        found[partition, offset] = (said["stream_id"], said["timestep"], said["probability"])
    assert compare(model, samples, found) < 1e-6


def test_the_check_finds_a_wrong_a_misplaced_and_a_missing_answer(artifact: Artifact):
    model = StreamingModel.load(artifact.directory)
    samples, right = samples_and_answers(model)
    assert compare(model, samples, right) == 0
    place = (0, 11)
    stream, timestep, probability = right[place]
    for wrong in [
        (stream, timestep, probability + 2e-5),
        (stream, timestep, float("nan")),
        (stream, timestep + 1, probability),
        ("s0", timestep, probability),
    ]:
        with pytest.raises(FatalFault, match=r"sample \(0, 11\): expected"):
            compare(model, samples, right | {place: wrong})
    with pytest.raises(FatalFault, match="the peer said None"):
        compare(model, samples, {at: answer for at, answer in right.items() if at != place})


def test_a_model_that_the_peers_do_not_know_is_refused(tmp_path: Path):
    import keras

    from worker.artifact import write_artifact

    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.GRU(4, return_sequences=True),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    other = write_artifact(model, tmp_path / "artifact", features=("x", "y", "z"), classes=("positive",))
    with pytest.raises(UsageError, match="the peers know"):
        write_weights(other, tmp_path / "weights")


def test_peers_that_are_not_built_are_named_with_what_builds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    none = tuple(replace(peer, needs=tmp_path / "no.stamp") for peer in programs.PEERS)
    monkeypatch.setattr(row, "PEERS", none)
    assert row.missing().startswith("not built and so not measured: Kafka Streams, LSTM in Java; ")
    assert row.missing().endswith("(run `make peers`)")
    monkeypatch.setattr(row, "PEERS", tuple(replace(peer, needs=tmp_path) for peer in programs.PEERS))
    assert row.missing() == ""
