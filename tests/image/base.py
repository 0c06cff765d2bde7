"""The base image: what `TESTS_IMAGE_BASE` names, else a Debian 12 with Python that debootstrap makes here."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from pathlib import Path

from tests.deploy.tools import answer_of
from tests.image.engine import Engine

SUITE = "bookworm"
PACKAGES = "ca-certificates,python3,python3-venv"
TAG = f"cellstream-test-base:{SUITE}"
TRUSTED = "etc/ssl/certs/ca-certificates.crt"
MADE_WITHIN_S = 1800


def base_image(engine: Engine) -> str:
    """The ID of the base to build on; made only where the engine does not have it yet.

    Raises:
        AssertionError: it cannot be had; it says what to install.
    """
    named = os.environ.get("TESTS_IMAGE_BASE")
    if named:
        engine("pull", named, within_s=MADE_WITHIN_S)
    elif engine.code_of("image", "inspect", TAG) != 0:
        _make(engine)
    return str(engine.facts(named or TAG)["Id"])


def _make(engine: Engine) -> None:
    assert shutil.which("debootstrap"), (
        "install debootstrap, or name a base: TESTS_IMAGE_BASE=python:3.12-slim-bookworm"
    )
    with tempfile.TemporaryDirectory(prefix="base-") as scratch:
        root, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root]
        answer_of(command, within_s=MADE_WITHIN_S)
        # A proxy between this machine and the packages may sign with an authority that only this machine knows.
        here = ssl.get_default_verify_paths().cafile
        if here is not None:
            with (root / TRUSTED).open("a") as trusted:
                trusted.write(Path(here).read_text())
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        answer_of(["tar", "-C", root, "-cf", archive, "."], within_s=MADE_WITHIN_S)
        engine("import", "--change", f"ENV PIP_CERT=/{TRUSTED}", archive, TAG, within_s=MADE_WITHIN_S)
