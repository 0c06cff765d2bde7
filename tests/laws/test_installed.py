"""Laws of versions: what is installed is told, whichever build of it that is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from worker.installed import installed_version


def install(directory: Path, package: str, number: str) -> None:
    (directory / f"{package.replace('-', '_')}-{number}.dist-info").mkdir()
    (directory / f"{package.replace('-', '_')}-{number}.dist-info/METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n"
    )


def test_a_package_has_its_own_version() -> None:
    assert installed_version("numpy") == version("numpy")


def test_tensorflow_without_graphics_processors_is_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(PackageNotFoundError):
        installed_version("tensorflow")
    install(tmp_path, "tensorflow-cpu", "2.20.1")
    assert installed_version("tensorflow") == "2.20.1"
