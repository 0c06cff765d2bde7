"""Artifacts of models with windows, several inputs and several outputs: certificate, states, checkpoints, classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.artifact import write_artifact
from worker.errors import ArtifactRefused
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import with_random_weights  # noqa: E402
from worker.cli import main  # noqa: E402
from worker.model.keras_file import model_bytes  # noqa: E402
from worker.model.step_model import WIDTHS  # noqa: E402

L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
CLASSES = ("gesture/rest", "gesture/wave", "alarm")


def every_kind_of_state() -> Any:
    """Cells, rings of one and two axes, counters, keys and values; two inputs, two outputs."""
    word, load = keras.Input((None,), dtype="int32", name="word"), keras.Input((None, 3), name="load")
    x = L.Concatenate()([L.Embedding(7, 3)(word), L.Masking()(load)])
    x = L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh")(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 3, sliding_window=4)(x, x, use_causal_mask=True)])
    x = L.MaxPooling1D(2, strides=1)(L.ZeroPadding1D((1, 0))(x))
    x = L.RNN([L.GRUCell(3), L.LSTMCell(4)], return_sequences=True)(x)
    y = L.TimeDistributed(L.Flatten())(L.ConvLSTM1D(2, 2, return_sequences=True)(L.Reshape((-1, 4, 1))(x)))
    means = L.Concatenate()([L.GlobalAveragePooling1D()(y), L.GlobalMaxPooling1D()(y)])
    outputs = [
        L.Dense(2, activation="softmax", name="gesture")(x),
        L.Dense(1, activation="sigmoid", name="alarm")(means),
    ]
    return with_random_weights(keras.Model([word, load], outputs))


def test_an_artifact_of_several_inputs_and_outputs_is_stepped_as_keras_answers(tmp_path: Path) -> None:
    model = every_kind_of_state()
    features = ("word", "x", "y", "z")
    artifact = write_artifact(model, tmp_path, features=features, classes=CLASSES)
    assert artifact.manifest.parity.largest_difference <= 1e-6
    assert {(slot.name, slot.shape) for slot in artifact.manifest.state_layout} >= {
        ("past_inputs", (4, 6)),
        ("keys", (3, 2, 3)),
        ("begun", (3,)),
        ("cell_1_cell_state", (4,)),
        ("hidden_state", (3, 2)),
        ("count", (2,)),
    }
    rng = np.random.default_rng(4)
    sequence = rng.standard_normal((9, 4)).astype(np.float32)
    sequence[:, 0] = rng.integers(0, 7, 9)
    answers = StreamingModel.load(tmp_path).run(sequence)
    for end in range(1, 10):
        gesture, alarm = model([sequence[None, :end, 0].astype(int), sequence[None, :end, 1:]])
        expected = np.concatenate([gesture[0, -1], alarm[0]])
        np.testing.assert_allclose(answers[end - 1], expected, atol=1e-6)


def test_classes_are_named_over_all_outputs_in_order(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=r"3 columns, 2 names .*gesture: 2, alarm: 1"):
        write_artifact(every_kind_of_state(), tmp_path, features=tuple("abcd"), classes=("a", "b"))


def test_export_names_the_classes_by_their_outputs_and_check_proves_every_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.keras").write_bytes(model_bytes(every_kind_of_state()))
    for command in (["export", str(tmp_path / "m.keras"), str(tmp_path / "a")], ["check", str(tmp_path / "a")]):
        monkeypatch.setattr("sys.argv", ["cellstream", *command, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        told = json.loads(capfd.readouterr().out)
        assert told["classes"] == ["gesture/0", "gesture/1", "alarm/positive"]
    assert told["parity_here"]["holds"]
    assert told["widths_here"] == sorted(WIDTHS)


def test_an_output_that_is_no_probability_is_named(tmp_path: Path) -> None:
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, [L.Dense(1, activation="sigmoid", name="fine")(inputs), L.Dense(1, name="raw")(inputs)])
    with pytest.raises(ArtifactRefused, match=r"output 'raw': its 1 columns come out of 'linear'"):
        write_artifact(model, tmp_path, features=("a", "b"), classes=("c", "d"))
