"""Laws of training, on a small made set where the answer shows in the second half of each sequence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import keras
import numpy as np
import pytest

from training import member
from training.datasets import Sequences, Split, split
from training.evaluation import predict
from training.fitting import fit
from training.member import Places
from training.networks import PRESETS, Recipe
from training.padding import pad, repeat_labels
from worker.errors import UsageError

RECIPE = Recipe(units=(6, 4), epochs=4, patience=3, batch_size=8)


def made(classes: int, lengths: tuple[int, ...], count: int = 24) -> Split:
    """Sequences of a class rise or fall by its number."""
    chance = np.random.default_rng(5)
    labels = np.arange(count) % classes
    inputs = [
        (chance.normal(size=(lengths[i % len(lengths)], 2)) + 2.0 * labels[i]).astype(np.float32) for i in range(count)
    ]
    return split(
        Sequences("made", tuple(inputs), labels, ("a", "b"), tuple("xyz"[:classes]), tuple(map(str, range(count))))
    )


def test_the_same_seed_gives_the_same_weights() -> None:
    parts = made(3, (5, 8))
    first, again = fit(parts, RECIPE, 1), fit(parts, RECIPE, 1)
    assert first.history == again.history
    for one, two in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_compiled_by_xla_a_network_learns_what_it_learns_without(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, recipe = made(3, (5,)), replace(RECIPE, units=(4,), dropout=0.0, noise=0.0)
    without = fit(parts, recipe, 1)
    asked, compiling = [], keras.Model.compile

    def compiled(model: keras.Model, *given: Any, **named: Any) -> None:
        asked.append(named["jit_compile"])
        compiling(model, *given, **named)

    monkeypatch.setattr(keras.Model, "compile", compiled)
    monkeypatch.setattr(member, "COMPILED_FROM", recipe.epochs)
    first, again, padded = fit(parts, recipe, 1), fit(parts, recipe, 1), fit(made(3, (5, 8)), recipe, 1)
    assert asked == [True, True, "auto"]
    assert first.history["loss"] == pytest.approx(without.history["loss"], rel=1e-4)
    assert first.history == again.history
    assert len(padded.history["loss"]) == recipe.epochs


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    parts = made(3, (5, 8))
    fitted = fit(parts, Recipe((6,), label_smoothing=0, epochs=12, learning_rate=0.3, patience=4, batch_size=4), 0)
    assert fitted.facts["best_epoch"] == np.argmin(fitted.history["val_loss"]) + 1 < len(fitted.history["loss"])
    inputs = pad(parts.validation.inputs)
    fitted.model.compile(loss="sparse_categorical_crossentropy")
    loss = fitted.model.evaluate(
        inputs, repeat_labels(parts.validation.labels, inputs.shape[1]), batch_size=256, verbose=0
    )
    assert loss == pytest.approx(min(fitted.history["val_loss"]), rel=1e-5)


def test_facts_say_what_was_done() -> None:
    parts = made(3, (5, 8))
    facts = fit(parts, RECIPE, 4).facts
    assert facts["sequences"] == {"train": 12, "validation": 6, "test": 6}
    assert (facts["dataset"], facts["seed"], facts["interrupted"]) == ("made", 4, False)
    assert list(facts["accuracy"]) == ["25%", "50%", "75%", "100%"]
    assert {"aeon", "keras", "numpy", "tensorflow"} == set(facts["versions"])


@pytest.mark.parametrize(("lengths", "masked"), [((5,), False), ((5, 6), True)])
def test_only_sequences_of_different_lengths_get_a_masking_layer(lengths: tuple[int, ...], masked: bool) -> None:
    fitted = fit(made(3, lengths), Recipe(units=(3,), epochs=1), 0)
    assert ("padding" in [layer.name for layer in fitted.model.layers]) is masked


def test_two_classes_give_one_probability_of_the_second() -> None:
    parts = made(2, (5, 8), 40)
    fitted = fit(parts, Recipe(units=(6,), epochs=25, patience=25, batch_size=8), 0)
    assert fitted.classes == ("y",)
    answers = predict(fitted.model, parts.test.inputs)
    assert {answer.shape[1] for answer in answers} == {1}
    assert fitted.facts["accuracy"]["100%"] >= 0.9


def test_a_stop_keeps_the_best_weights_so_far() -> None:
    stop = Event()

    def on_epoch(epoch: int, loss: float, val_loss: float) -> None:
        if epoch == 2:
            stop.set()

    fitted = fit(made(3, (5,)), RECIPE, 0, stop=stop, on_epoch=on_epoch)
    assert fitted.facts["interrupted"]
    assert fitted.facts["epochs"] == 3
    assert fitted.facts["best_epoch"] == np.argmin(fitted.history["val_loss"]) + 1


def test_a_stop_in_the_first_epoch_has_nothing_to_keep() -> None:
    stop = Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        fit(made(3, (5,)), RECIPE, 0, stop=stop)


def test_labels_of_timesteps_are_learned_where_they_stand() -> None:
    chance = np.random.default_rng(8)
    lengths = [int(chance.integers(6, 12)) for _ in range(40)]
    # The label is the sign of the last sample: no label of a whole sequence could say that.
    inputs = tuple(chance.normal(size=(length, 1)).astype(np.float32) for length in lengths)
    own = tuple((sequence[:, 0] > 0).astype(np.int64) for sequence in inputs)
    names = tuple(map(str, range(40)))
    majority = np.array([np.bincount(labels).argmax() for labels in own], np.int64)
    parts = split(Sequences("made", inputs, majority, ("a",), ("down", "up"), names, (), own))
    fitted = fit(parts, Recipe(units=(6,), noise=0.0, epochs=25, patience=25, batch_size=4), 0)
    assert parts.test.timestep_labels is not None
    answers = predict(fitted.model, parts.test.inputs)
    right = [(said[:, 0] >= 0.5) == labels for said, labels in zip(answers, parts.test.timestep_labels, strict=True)]
    assert np.concatenate(right).mean() >= 0.9
    assert min(fitted.facts["accuracy"].values()) >= 0.7


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_fitted_and_can_be_stepped(name: str) -> None:
    fitted = fit(made(3, (5, 8)), replace(PRESETS[name], epochs=1), 0)
    from worker.model.graph import StepGraph  # imports TensorFlow, which `fit` has set up

    recurrent = [layer.units for layer in fitted.model.layers if hasattr(layer, "units")]
    assert tuple(recurrent[:-1]) == PRESETS[name].units  # the last one is the Dense layer
    assert StepGraph(fitted.model).outputs == 3


@pytest.mark.parametrize("recipe", [RECIPE, replace(PRESETS["conv-gru"], epochs=4, batch_size=8, schedule="cosine")])
def test_a_killed_training_goes_on_to_the_weights_that_it_would_have_had(recipe: Recipe, tmp_path: Path) -> None:
    parts, memory = made(3, (5, 8)), Places(memory=tmp_path / "memory")

    def killed(epoch: int, loss: float, val_loss: float) -> None:
        if epoch == 2:
            raise MemoryError  # as good as any end that nothing in `fit` expects

    whole = fit(parts, recipe, 1)
    with pytest.raises(MemoryError):
        fit(parts, recipe, 1, on_epoch=killed, places=memory)
    seen: list[int] = []
    again = fit(parts, recipe, 1, on_epoch=lambda epoch, *_: seen.append(epoch), places=memory)
    assert seen[0] == 3
    np.testing.assert_allclose(again.history["val_loss"], whole.history["val_loss"], rtol=1e-6)
    for one, two in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    # What has ended is not learned again, and what is remembered of one training is not taken for another's.
    third = fit(parts, recipe, 1, on_epoch=lambda epoch, *_: seen.append(epoch), places=memory)
    assert seen[-1] == 4
    assert third.facts["best_epoch"] == whole.facts["best_epoch"]
    with pytest.raises(UsageError, match="remembers another training"):
        fit(parts, recipe, 2, places=memory)
    with pytest.raises(UsageError, match="not empty"):
        fit(parts, recipe, 1, places=Places(memory=tmp_path))


def test_early_stopping_outlives_a_kill(tmp_path: Path) -> None:
    recipe = Recipe((6,), label_smoothing=0, epochs=12, learning_rate=0.3, patience=3, batch_size=4)
    parts, memory = made(3, (5, 8)), Places(memory=tmp_path)
    whole = fit(parts, recipe, 0)
    stopped = whole.facts["best_epoch"] + 1  # one epoch after the best one

    def killed(epoch: int, loss: float, val_loss: float) -> None:
        if epoch == stopped:
            raise MemoryError

    with pytest.raises(MemoryError):
        fit(parts, recipe, 0, on_epoch=killed, places=memory)
    again = fit(parts, recipe, 0, places=memory)
    assert len(whole.history["loss"]) == whole.facts["best_epoch"] + 3 < 12
    assert again.history == whole.history
    for one, two in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_logs_are_written_for_tensorboard(tmp_path: Path) -> None:
    fit(made(3, (5,)), replace(RECIPE, epochs=1), 0, places=Places(logs=tmp_path))
    assert {path.parent.name for path in tmp_path.rglob("events.out.tfevents.*")} == {"train", "validation"}


def test_rare_classes_are_learned_where_they_are_weighted() -> None:
    parts = made(2, (6,), 120)
    thinned = [
        part.take([i for i in range(len(part)) if part.labels[i] == 0 or i % 8 == 1])
        for part in (parts.train, parts.validation)
    ]
    few = replace(parts, train=thinned[0], validation=thinned[1])
    recipe = Recipe(units=(4,), noise=1.0, epochs=8, batch_size=16)
    found = []
    for weighted in (False, True):
        said = predict(fit(few, replace(recipe, class_weights=weighted), 3).model, parts.test.inputs)
        found.append(np.mean([own[-1] for own, label in zip(said, parts.test.labels, strict=True) if label == 1]))
    assert found[1] > found[0]


OWN = """import keras

def build(features, classes):
    recurrent = keras.layers.GRU(3, return_sequences=True)
    return keras.Sequential([keras.Input((None, features)), recurrent, keras.layers.Dense({width})])
"""


def test_a_network_of_ones_own_is_scaled_fitted_and_can_be_stepped(tmp_path: Path) -> None:
    path = tmp_path / "network.py"
    path.write_text(OWN.replace("{width}", 'classes, "softmax"'))
    fitted = fit(made(3, (5, 8)), Recipe(file=str(path), epochs=1), 0)
    from worker.model.graph import StepGraph

    assert StepGraph(fitted.model).outputs == 3
    assert fitted.facts["recipe"]["file"].startswith("network.py ")
    assert str(tmp_path) not in str(fitted.facts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OWN.replace("{width}", "7"), r"answers \(None, None, 3\).*received \(None, None, 7\)"),
        ("def build(features, classes): return 3", "received int"),
        ("bild = 3", r"a function build\(features, classes\)"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
    ],
)
def test_a_file_that_builds_something_else_is_told_what_is_expected(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "network.py").write_text(text)
    with pytest.raises(UsageError, match=told):
        fit(made(3, (5, 8)), Recipe(file=str(tmp_path / "network.py"), epochs=1), 0)
