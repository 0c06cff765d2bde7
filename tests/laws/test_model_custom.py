"""Layers and cells of one's own stream once code on this machine has vouched for them, and only then."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker import StreamingModel
from worker.artifact import read_artifact, write_artifact
from worker.errors import ArtifactRefused
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.streamed import functional, largest_difference, sequential  # noqa: E402
from worker.model.keras_file import model_bytes, open_model  # noqa: E402
from worker.model.layers import (  # noqa: E402
    RULES,
    Call,
    Rule,
    Slot,
    Value,
    custom,
    per_timestep_layer,
    recurrent_cell,
    rule,
)
from worker.model.layers.recurrent import CELLS  # noqa: E402

L = keras.layers


@keras.saving.register_keras_serializable("pumps")
class Scaled(L.Layer):
    """A factor for each feature."""

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight(shape=(input_shape[-1],), name="factor")

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


@keras.saving.register_keras_serializable("pumps")
class LeakyCell(L.Layer):
    """A state that leaks, of two pieces, and an output that is neither of them."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.state_size = [units, units]
        self.output_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, inputs: Any, states: Any) -> Any:
        level, trend = states
        moved = 0.9 * level + keras.ops.tanh(inputs @ self.kernel)
        return moved - trend, [moved, 0.5 * trend + 0.5 * (moved - level)]

    def get_initial_state(self, batch_size: int | None = None) -> Any:
        return [keras.ops.ones((batch_size, self.units)) * 0.25, keras.ops.zeros((batch_size, self.units))]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("pumps")
class Difference(L.Layer):
    """The change since the timestep before: it remembers, so it needs a rule."""

    def call(self, inputs: Any) -> Any:
        return inputs - keras.ops.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]


class DifferenceRule(Rule):
    """Keeps the timestep before."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.slots = (Slot("before", np.zeros(call.flow.shape[-1], np.float32)),)
        self.outputs = call.flowing(temporal=True)

    def step(self, values: Any, state: Any) -> Any:
        now = values[0].tensor
        return (Value(now - state[0][:, None]),), (now[:, 0],)


def register() -> None:
    per_timestep_layer(Scaled)
    recurrent_cell(LeakyCell)
    rule(Difference)(DifferenceRule)


def forget() -> None:
    for kind in (Scaled, Difference):
        RULES.pop(kind, None)
    CELLS.discard(LeakyCell)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register()
    yield
    forget()


def own() -> Any:
    return sequential(
        Scaled(), Difference(), L.RNN([LeakyCell(3), LeakyCell(2)], return_sequences=True), L.Dense(2, "softmax")
    )


def masked() -> Any:
    return functional(
        lambda x: L.Dense(2, "softmax")(L.RNN(LeakyCell(3), return_sequences=True)(L.Masking()(Scaled()(x))))
    )


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
@pytest.mark.parametrize("build", [own, masked, lambda: sequential(L.Masking(), L.RNN(LeakyCell(3)), L.Dense(2))])
def test_what_is_registered_answers_what_keras_answers(build: Any) -> None:
    assert largest_difference(build())[0] <= 1e-6


def test_an_artifact_of_own_layers_is_opened_where_they_are_registered_only(tmp_path: Path) -> None:
    write_artifact(own(), tmp_path, features=("a", "b", "c"), classes=("x", "y"))
    assert [slot.name for slot in read_artifact(tmp_path).manifest.state_layout] == [
        "before",
        *("cell_0_state_0", "cell_0_state_1", "cell_1_state_0", "cell_1_state_1"),
    ]
    assert StreamingModel.load(tmp_path).run(np.ones((4, 3))).shape == (4, 2)
    forget()
    with pytest.raises(ArtifactRefused, match=r"'.*' is a .* not Keras' own: .* register the class on this machine"):
        StreamingModel.load(tmp_path)


def test_installed_packages_are_asked_for_their_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    content = model_bytes(own())
    forget()
    asked = []

    class Point(EntryPoint):
        def load(self) -> None:
            asked.append(self.group)
            register()

    point = Point("pumps", "pumps.layers", "cellstream.layers")
    monkeypatch.setattr(custom, "entry_points", lambda group: [point] if group == "cellstream.layers" else [])
    assert open_model(content, "model").count_params()
    assert asked


@pytest.mark.parametrize("kind", ["function", "Other", None, 3])
def test_a_registered_name_vouches_for_its_own_class_only(kind: Any) -> None:
    assert custom.is_registered("pumps>Scaled", "Scaled")
    assert not custom.is_registered("pumps>Scaled", kind)
    assert not custom.is_registered("pumps>Unknown", "Scaled")
    assert not custom.is_registered(["pumps>Scaled"], "Scaled")
