"""Laws of the export: what could not be served leaves no artifact, and both commands tell the same story."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker import cli
from worker.artifact import write_artifact
from worker.errors import ArtifactRefused, NotStreamable
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.small_model import CLASSES, FEATURES, make_model, saved  # noqa: E402

L = keras.layers


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "names short": (make_model, {"features": ("load",)}, "takes 2 columns, 1 names"),
    "classes short": (make_model, {"classes": ("idle",)}, "answers with 3 columns, 1 names"),
    "doubled": (make_model, {"features": ("load", "load")}, "more than once"),
    "reserved": (make_model, {"features": ("load", "end_of_sequence")}, "fields of a sample record"),
    "unprintable": (make_model, {"features": ("load", "a\nb")}, "printable"),
    "empty": (make_model, {"classes": ("idle", "", "fault")}, "printable"),
    "no probability": (
        lambda: make_model(L.GRU(4, return_sequences=True), L.Dense(3)),
        {},
        r"'linear'.*Dense\(3, activation='softmax'\)",
    ),
    "several sigmoids": (
        lambda: make_model(L.GRU(4), L.Dense(3, activation="sigmoid")),
        {},
        "a sigmoid of width 1, for each label",
    ),
    "softmax of one": (
        lambda: make_model(L.GRU(4), L.Dense(1, activation="softmax")),
        {"classes": ("yes",)},
        "activation='sigmoid'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_export_that_could_not_be_served_is_refused(name: str, tmp_path: Path) -> None:
    build, names, words = REFUSED[name]
    with pytest.raises(ArtifactRefused, match=words):
        write_artifact(build(), tmp_path / "a", **{"features": FEATURES, "classes": CLASSES, **names})
    assert not (tmp_path / "a").exists()


def test_a_model_that_needs_the_future_leaves_no_artifact(tmp_path: Path) -> None:
    model = make_model(L.Bidirectional(L.LSTM(2, return_sequences=True), name="both_ways"), L.Dense(3))
    with pytest.raises(NotStreamable, match="'both_ways'"):
        write_artifact(model, tmp_path / "a", features=FEATURES, classes=CLASSES)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "last", [L.Softmax(), L.Activation("softmax"), L.TimeDistributed(L.Dense(3, activation="softmax"))]
)
def test_every_spelling_of_softmax_is_a_probability(last: Any, tmp_path: Path) -> None:
    model = make_model(L.GRU(4, return_sequences=True), L.Dense(3), last)
    assert write_artifact(model, tmp_path, features=FEATURES, classes=CLASSES).manifest.classes == CLASSES


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["cellstream", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_export_and_check_tell_the_same_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.keras").write_bytes(saved(make_model(), tmp_path))
    file, directory = str(tmp_path / "m.keras"), str(tmp_path / "a")
    flags = ("--features", "load, heat", "--classes", "idle,busy,fault", "--json")
    assert run("export", file, directory, *flags, monkeypatch=monkeypatch) == 0
    told = json.loads(capfd.readouterr().out)
    assert run("check", directory, "--json", monkeypatch=monkeypatch) == 0
    checked = json.loads(capfd.readouterr().out)
    assert {key: checked[key] for key in told} == told
    assert checked["parity_here"]["holds"]
    for parity in (told["parity"], checked["parity_here"]):
        assert parity["largest_difference"] <= parity["tolerance"] == 1e-6
    assert checked["widths_here"][0] == 64
    assert checked["features"] == list(FEATURES)
    assert run("check", directory, monkeypatch=monkeypatch) == 0
    shown = capfd.readouterr().out
    assert told["digest"][:12] in shown
    assert shown.count("at most 1e-06 may be") == 2


def test_refusals_exit_with_3_and_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_artifact(make_model(), tmp_path / "damaged", features=FEATURES, classes=CLASSES)
    (tmp_path / "damaged" / "model.keras").write_bytes(b"x")
    assert run("check", str(tmp_path / "damaged"), monkeypatch=monkeypatch) == 3
    assert "export the model anew" in capfd.readouterr().err
    (tmp_path / "m.keras").write_bytes(saved(make_model(L.Lambda(lambda x: x, name="sneaky")), tmp_path))
    assert run("export", str(tmp_path / "m.keras"), str(tmp_path / "a"), monkeypatch=monkeypatch) == 3
    assert "'sneaky'" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()
