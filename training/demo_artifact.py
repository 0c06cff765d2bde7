"""The demo's trained artifact, kept in the user's cache under what determines it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from training.datasets import load, split
from training.fitting import Fitted, fit
from training.networks import RECIPES
from training.progress import epoch_bar
from worker.artifact import FORMAT_VERSION, Artifact, read_artifact
from worker.errors import ArtifactRefused
from worker.installed import installed_version

# The sources and libraries whose change gives another model.
SOURCES = ("datasets.py", "splits.py", "padding.py", "networks.py", "augmentation.py", "member.py", "fitting.py")
LIBRARIES = ("aeon", "keras", "numpy", "tensorflow")


def trained(name: str, seed: int, console: Console) -> Artifact:
    """The artifact of a bundled set: from the cache, or trained now and put there.

    Raises:
        KeyboardInterrupt: in the middle of training; the cache is as it was.
    """
    directory = _cache() / f"{name}-{_key(name, seed)}"
    try:
        artifact = read_artifact(directory)
    except ArtifactRefused:  # not there, or cut short: its manifest is written last
        artifact = _train(name, seed, console).write(directory)
    console.print(f"artifact {directory}", soft_wrap=True)
    return artifact


def _train(name: str, seed: int, console: Console) -> Fitted:
    parts = split(load(name), seed)
    recipe = RECIPES[name]
    console.print(f"training on {len(parts.train)} recordings of {name}, once")
    with epoch_bar(console, recipe.epochs) as on_epoch:
        return fit(parts, recipe, seed, on_epoch=on_epoch)


def _cache() -> Path:
    """Where the platform's users keep what can be made again (XDG base directories)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return Path(root if Path(root).is_absolute() else Path.home() / ".cache") / "cellstream"


def _key(name: str, seed: int) -> str:
    """16 hexadecimal digits of what determines a model: data set, seed, recipe, code, libraries."""
    sources = [hashlib.sha256(Path(__file__).with_name(source).read_bytes()).hexdigest() for source in SOURCES]
    libraries = [installed_version(library) for library in LIBRARIES]
    facts = [name, seed, asdict(RECIPES[name]), FORMAT_VERSION, sources, libraries]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
