"""Laws of the artifact: what is served is what was exported, and nothing unsafe is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.artifact import FORMAT_VERSION, MAX_MANIFEST_BYTES, Artifact, read_artifact, write_artifact
from worker.errors import ArtifactRefused
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()


from tests.laws.small_model import CLASSES, FEATURES, make_model  # noqa: E402
from worker.model.step_model import load_step_model  # noqa: E402


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
