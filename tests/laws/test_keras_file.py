"""Laws of opening a model: nothing unsafe reaches Keras."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ArtifactRefused
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.small_model import make_model, saved  # noqa: E402
from worker.model.keras_file import open_model  # noqa: E402

L = keras.layers


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
    tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], words: str
) -> None:
    content = repacked(saved(make_model(), tmp_path), change, zipfile.ZIP_DEFLATED)
    with pytest.raises(ArtifactRefused, match=words):
        open_model(content, "m.keras")


def test_an_hdf5_model_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_model().save(path)
    with pytest.raises(ArtifactRefused, match="HDF5 models"):
        open_model(path.read_bytes(), "old.keras")


def test_an_archive_of_a_version_that_nobody_has_is_refused(tmp_path: Path) -> None:
    content = bytearray(saved(make_model(), tmp_path))
    content[content.index(b"PK\1\2") + 6] = 101  # the version that is needed to extract the first member
    with pytest.raises(ArtifactRefused, match=r"not a \.keras file"):
        open_model(bytes(content), "m.keras")
