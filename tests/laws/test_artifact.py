"""Laws of the artifact: what is served is what was exported, and nothing unsafe is opened."""

from __future__ import annotations

import io
import json
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import cli
from worker.artifact import FORMAT_VERSION, MAX_MANIFEST_BYTES, Artifact, read_artifact, write_artifact
from worker.errors import ArtifactRefused, NotStreamable
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from worker.model.keras_file import open_model  # noqa: E402
from worker.model.step_model import load_step_model  # noqa: E402

L = keras.layers
FEATURES, CLASSES = ("load", "heat"), ("idle", "busy", "fault")


def make_model(*layers: Any, features: int = 2) -> Any:
    keras.utils.set_random_seed(5)
    body = layers or (L.GRU(4, return_sequences=True, name="gru"), L.Dense(3, activation="softmax", name="answer"))
    return keras.Sequential([keras.Input((None, features), name="samples"), *body], name="small")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    directory = tmp_path_factory.mktemp("artifact") / "deep" / "dir"
    return write_artifact(make_model(), directory, features=FEATURES, classes=CLASSES, training={"epochs": 3})


@pytest.fixture
def copied(exported: Artifact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.directory, tmp_path / "copy"))


def test_what_is_read_is_what_was_written(exported: Artifact) -> None:
    read = read_artifact(exported.directory)
    assert read.manifest == exported.manifest
    assert read.digest == exported.digest
    manifest = read.manifest
    assert (manifest.features, manifest.classes, manifest.state_size) == (FEATURES, CLASSES, 4)
    assert manifest.training == {"epochs": 3}
    assert manifest.parity.largest_difference <= manifest.parity.tolerance == 1e-6
    assert 0 < manifest.parity.noise < 2.5e-7
    assert manifest.parity.prefixes > 1000
    assert set(manifest.versions) == {"cellstream", "keras", "numpy", "tensorflow"}
    assert load_step_model(read).layout == manifest.state_layout


def test_the_same_model_gives_the_same_bytes(exported: Artifact, tmp_path: Path) -> None:
    model = make_model()
    model.compile("adam", "categorical_crossentropy")
    model.fit(np.zeros((1, 2, 2)), np.zeros((1, 2, 3)), verbose=0)  # an optimizer with state, which is left out
    model.set_weights(make_model().get_weights())
    again = write_artifact(model, tmp_path, features=FEATURES, classes=CLASSES, training={"epochs": 3})
    for name in ("model.keras", "manifest.json"):
        assert (again.directory / name).read_bytes() == (exported.directory / name).read_bytes()
    assert model.optimizer is not None


def test_the_digest_covers_all_that_decides_an_answer(exported: Artifact) -> None:
    def digest(**changed: Any) -> str:
        facts = {name: getattr(exported.manifest, name) for name in exported.manifest.__dataclass_fields__}
        return Artifact(exported.directory, type(exported.manifest)(**{**facts, **changed})).digest

    assert digest(training=None, parity=None, versions={}) == exported.digest
    others = {
        digest(features=("heat", "load")),
        digest(features=("load,heat",)),
        digest(classes=("busy", "idle", "fault")),
        digest(model_digest="0" * 64),
    }
    assert len(others | {exported.digest}) == 5


def test_exporting_again_keeps_what_lies_beside(copied: Path, exported: Artifact) -> None:
    (copied / "history.json").write_text("[]")
    write_artifact(make_model(), copied, features=("other", "heat"), classes=CLASSES)
    assert read_artifact(copied).manifest.features == ("other", "heat")
    assert sorted(path.name for path in copied.iterdir()) == ["history.json", "manifest.json", "model.keras"]


@settings(max_examples=30, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_model_with_one_bit_changed_is_refused(exported: Artifact, place: float, bit: int) -> None:
    content = bytearray(exported.model_path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    directory = exported.directory.parent / "flipped"
    directory.mkdir(exist_ok=True)
    (directory / "model.keras").write_bytes(content)
    shutil.copy(exported.directory / "manifest.json", directory)
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        read_artifact(directory)


def test_a_model_exchanged_after_it_was_read_is_refused(copied: Path) -> None:
    artifact = read_artifact(copied)
    (copied / "model.keras").write_bytes(b"another")
    with pytest.raises(ArtifactRefused, match="SHA-256"):
        load_step_model(artifact)


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (lambda m: {**m, "format_version": FORMAT_VERSION + 1}, f"format version {FORMAT_VERSION + 1}"),
    "no version that there was": (lambda m: {**m, "format_version": 0}, "format version 0"),
    "an unknown field": (lambda m: {**m, "shiny": 1}, "'shiny'"),
    "an unknown field within": (lambda m: {**m, "parity": {**m["parity"], "shiny": 1}}, "'shiny'"),
    "an unknown field of a slot": (lambda m: {**m, "state_layout": [{**m["state_layout"][0], "by": 2}]}, "'by'"),
    "newer with other fields": (lambda _: {"format_version": 9, "shiny": []}, "format version 9"),
    "no version": (lambda m: {k: v for k, v in m.items() if k != "format_version"}, "format_version"),
    "text for a number": (lambda m: {**m, "state_size": "4"}, "state_size"),
    "a list": (lambda _: [1], "not a manifest"),
    "nested": (lambda _: "[" * 5000 + "]" * 5000, "not a manifest"),
    "huge": (lambda m: {**m, "training": {"x": "y" * MAX_MANIFEST_BYTES}}, "larger than"),
    "feature twice": (lambda m: {**m, "features": ["load", "load"]}, "more than once"),
    "reserved feature": (lambda m: {**m, "features": ["load", "timestep"]}, "timestep"),
    "no features": (lambda m: {**m, "features": []}, "1 to"),
    "bare digest": (lambda m: {**m, "model_digest": "../x"}, "model_digest"),
    "gap in the layout": (lambda m: {**m, "state_layout": [{**m["state_layout"][0], "offset": 1}]}, "does not follow"),
    "huge slot": (lambda m: {**m, "state_layout": [{**m["state_layout"][0], "shape": [1 << 40]}]}, "does not follow"),
    "wrong size": (lambda m: {**m, "state_size": 5}, "state_size is 5"),
    "no certificate": (lambda m: {**m, "parity": {}}, "largest_difference"),
    "differs": (lambda m: {**m, "parity": {**m["parity"], "largest_difference": 2e-6}}, "certificate does not hold"),
    "lax": (lambda m: {**m, "parity": {**m["parity"], "tolerance": 2e-4}}, "certificate does not hold"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_not_ours_is_refused(copied: Path, name: str) -> None:
    change, words = MANIFESTS[name]
    path = copied / "manifest.json"
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(ArtifactRefused) as refused:
        read_artifact(copied)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_manifest_of_another_model_is_refused_when_it_is_stepped(copied: Path) -> None:
    path = copied / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["state_layout"][0]["name"] = "cell_state"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactRefused, match="another state layout"):
        load_step_model(read_artifact(copied))


def test_a_missing_artifact_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="cellstream export"):
        read_artifact(tmp_path / "nowhere")


def saved(model: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "saved.keras"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path.read_bytes()


def repacked(content: bytes, change: Callable[[dict[str, bytes]], dict[str, bytes]], method: int = 0) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = change({name: archive.read(name) for name in archive.namelist()})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return out.getvalue()


class Stranger(L.Layer):
    """A class that is not Keras' own."""

    def call(self, inputs: Any) -> Any:
        return inputs


def test_a_lambda_is_refused_before_keras_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(make_model(L.Lambda(lambda x: x, name="sneaky")), tmp_path)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras opened it"))
    with pytest.raises(ArtifactRefused, match=r"'sneaky' .Lambda.*Use a Keras layer"):
        open_model(content, "m.keras")


def test_a_class_that_is_not_keras_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match=r"'odd' is a Stranger of .*Keras' own"):
        open_model(saved(make_model(Stranger(name="odd")), tmp_path), "m.keras")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: {**m, "../../evil": b""}, "expected the members"),
        (lambda m: {k: v for k, v in m.items() if k != "config.json"}, "expected the members"),
        (lambda m: {**m, "config.json": b"[" * 100_000}, "cannot be read"),
        (lambda m: {**m, "config.json": b'{"a":' * 300 + b"1" + b"}" * 300}, "nested deeper"),
        (lambda m: {**m, "config.json": b" " * (20 << 20)}, "unpacks to"),
        (lambda m: {**m, "config.json": b"{}"}, "Keras 3"),
        (lambda m: {**m, "model.weights.h5": b"\x89HDF"}, "model.weights.h5 cannot be read"),
        (lambda m: {**m, "config.json": m["config.json"].replace(b"keras.layers", b"os")}, "not Keras' own"),
        (lambda m: {**m, "config.json": m["config.json"].replace(b"keras.layers", b"keras.utils")}, "not Keras' own"),
    ],
)
def test_an_archive_that_keras_did_not_write_is_refused(
    exported: Artifact, change: Callable[[dict[str, bytes]], dict[str, bytes]], words: str
) -> None:
    content = repacked(exported.model_path.read_bytes(), change, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArtifactRefused, match=words):
        open_model(content, "m.keras")


def test_an_hdf5_model_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_model().save(path)
    with pytest.raises(ArtifactRefused, match="HDF5 models"):
        open_model(path.read_bytes(), "old.keras")


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
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (copied / "model.keras").write_bytes(b"x")
    assert run("check", str(copied), monkeypatch=monkeypatch) == 3
    assert "export the model anew" in capfd.readouterr().err
    (tmp_path / "m.keras").write_bytes(saved(make_model(L.Lambda(lambda x: x, name="sneaky")), tmp_path))
    assert run("export", str(tmp_path / "m.keras"), str(tmp_path / "a"), monkeypatch=monkeypatch) == 3
    assert "'sneaky'" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()
