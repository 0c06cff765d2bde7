"""Laws of recipes in files, and of the search that writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from typer.testing import CliRunner

from training.networks import PRESETS, Recipe
from training.recipe_file import Ensemble, read_recipe, write_recipe
from training.search_space import FILTERS, as_parameters, drawn, network_of
from worker.cli import app
from worker.errors import UsageError


def recipe_of(tmp_path: Path, text: str) -> tuple[Recipe, Ensemble]:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_what_a_recipe_does_not_say_is_the_presets(tmp_path: Path) -> None:
    recipe, ensemble = recipe_of(
        tmp_path, '[network]\npreset = "gru"\nfilters = [8, 4]\nlearning_rate = 0.003\n\n[ensemble]\nfolds = 3\n'
    )
    assert recipe == replace(PRESETS["gru"], filters=(8, 4), learning_rate=0.003)
    assert ensemble == Ensemble(folds=3)
    assert recipe_of(tmp_path, "") == (Recipe(), Ensemble())


def test_everything_that_is_wrong_with_a_recipe_is_told_at_once(tmp_path: Path) -> None:
    text = (
        '[network]\npreset = "gpt"\nunit = [3]\ncell = "rnn"\ndropout = 2.0\nkernel = "5"\nfilters = [0]\n'
        "[ensemble]\nfolds = 2.5\n[other]\n"
    )
    with pytest.raises(UsageError) as refused:
        recipe_of(tmp_path, text)
    for told in (
        "unknown section 'other'",
        "network.preset 'gpt': expected one of lstm, gru",
        "unknown network.unit, did you mean 'units'?",
        'network.cell = "rnn": expected lstm or gru',
        "network.dropout = 2.0: expected 0 to 0.99",
        "network.filters = [0]: expected 1 or more",
        'network.kernel = "5": expected `int`, got `str`',
        "ensemble.folds = 2.5: expected `int`, got `float`",
    ):
        assert told in str(refused.value)
    for text, told in (
        ("[network", "--recipe"),
        ("network = 3\nensemble = [1]\n", "network and ensemble: expected a section"),
        ("[network]\npreset = []\n", "expected one of lstm"),
    ):
        with pytest.raises(UsageError, match=told):
            recipe_of(tmp_path, text)


SPACE = st.fixed_dictionaries(
    {
        "filters": st.sampled_from(list(FILTERS)),
        "kernel": st.integers(3, 9),
        "units": st.sampled_from([16, 32, 48, 64]),
        "dropout": st.floats(0, 0.5),
        "noise": st.floats(0, 0.2),
        "scale": st.floats(0, 0.2),
        "offset": st.floats(0, 0.2),
        "warp": st.floats(0, 0.2),
        "learning_rate": st.floats(1e-3, 2e-2),
        "l2": st.floats(1e-5, 1e-2),
        "batch_size": st.sampled_from([8, 16, 32]),
    }
)


@given(SPACE)
def test_what_a_trial_tries_is_what_its_recipe_says(tmp_path_factory: pytest.TempPathFactory, chosen: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "tried.toml"
    tried = replace(PRESETS["conv-gru"], **drawn(FixedTrial(chosen)))
    write_recipe(path, "conv-gru", network_of(chosen), {"folds": 2}, "words\nmore words")
    assert read_recipe(path) == (tried, Ensemble(folds=2))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_place_of_the_space(name: str) -> None:
    recipe = replace(PRESETS[name], **drawn(FixedTrial(as_parameters(vars(PRESETS[name])))))
    assert recipe.units[0] in (32, 48)
    assert recipe.learning_rate == PRESETS[name].learning_rate


@pytest.mark.parametrize("trials", [0, 2])
def test_a_search_that_is_interrupted_keeps_the_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: int
) -> None:
    begun = []

    def losses(make: object, pool: object, recipe: Recipe, *rest: object, **named: object) -> Iterator[float]:
        begun.append(recipe)
        if len(begun) > trials:
            raise KeyboardInterrupt
        yield from (0.9, 1 / len(begun))

    monkeypatch.setattr("training.tuning.apart", losses)
    out = tmp_path / "recipe.toml"
    done = CliRunner().invoke(app, ["tune", "basic-motions", "--folds", "2", "--out", str(out), "--json"])
    if not trials:
        assert done.exit_code != 0
        assert not out.exists()
        return
    assert done.exception is None
    assert "stopped: the best recipe so far is kept" in done.stderr
    told = json.loads(done.stdout)
    assert (told["best"], len(told["trials"])) == (0.5, 2)
    assert read_recipe(out)[0].learning_rate == pytest.approx(begun[1].learning_rate)


@pytest.mark.slow
def test_a_search_writes_the_recipe_that_training_takes(tmp_path: Path) -> None:
    table, recipe = tmp_path / "runs.csv", tmp_path / "recipe.toml"
    rows = [f"run-{run},{at},{(run % 2) * at / 4 + (run * 7 + at * 3) % 5 / 9},{'ab'[run % 2]}" for run in range(24) for at in range(5)]  # fmt: skip  # noqa: E501
    table.write_text("\n".join(["run,at,p,state", *rows]) + "\n", encoding="utf-8")
    columns = ["--stream-id", "run", "--label", "state", "--features", "p", "--order", "at"]
    arguments = ["tune", str(table), *columns, "--trials", "2", "--folds", "2", "--epochs", "2", "--out", str(recipe)]
    done = CliRunner().invoke(app, [*arguments, "--json", "--split", "weeks"])
    assert "expected chance or time" in str(done.exception)
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exception is None, done.output
    assert "trial 2 of 2, epoch 4/4  loss " in done.stderr
    told = json.loads(done.stdout)
    assert told["best"] == min(trial["loss"] for trial in told["trials"] if trial["loss"] is not None)
    network, ensemble = read_recipe(recipe)
    assert (network.epochs, ensemble.folds) == (2, 2)
    assert f"log loss {told['best']:.4f} out of fold on 18 sequences" in recipe.read_text(encoding="utf-8")
    done = CliRunner().invoke(
        app, ["train", str(table), *columns, "--recipe", str(recipe), "--preset", "gru", "--out", str(tmp_path / "a")]
    )
    assert "leave out one of them" in str(done.exception)
