"""From labelled sequences to an artifact: a network is fitted, and what was measured goes along."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from training.datasets import Split, join
from training.evaluation import accuracy_by_share, predict
from training.member import NOWHERE, OnEpoch, Places, fit_member
from training.networks import Recipe, Scaling
from worker.installed import installed_version
from worker.model.tensorflow_setup import setup_tensorflow

if TYPE_CHECKING:
    from worker.artifact import Artifact
    from worker.decision import DecisionRule


@dataclass(frozen=True)
class Fitted:
    """A trained model and how it came to be.

    Attributes:
        model: with the best weights; without optimizer, so that equal training gives an equal file.
        features: names of the inputs.
        classes: names of the answers.
        scaling: what the model's Normalization layer holds.
        history: `loss` and `val_loss`, one number for each epoch.
        facts: for the manifest: data set, parts, seed, recipe, epochs, metrics on the held-out part, seconds, versions.
    """

    model: Any
    features: tuple[str, ...]
    classes: tuple[str, ...]
    scaling: Scaling
    history: dict[str, list[float]]
    facts: dict[str, Any]

    def write(self, directory: Path) -> Artifact:
        """Write the artifact, and `history.json` and `history.png` beside it.

        Raises:
            Refused: the model's stepped answers differ from Keras; nothing is written.
        """
        from training.history import write_history

        artifact = self.write_model(directory)
        write_history(self.history, self.facts["best_epoch"], directory, self.facts["dataset"])
        return artifact

    def write_model(self, directory: Path, decision: DecisionRule | None = None) -> Artifact:
        """Write the artifact alone, with a rule for decisions if there is one; see `write`."""
        import keras

        from worker.artifact import write_artifact

        with keras.device("cpu:0"):  # where the worker will step it, and where its answers are proven
            return write_artifact(
                self.model,
                directory,
                features=self.features,
                classes=self.classes,
                training=self.facts,
                scaling=self.scaling.facts(self.features),
                decision=decision,
            )


def fit(
    parts: Split,
    recipe: Recipe,
    seed: int = 0,
    *,
    stop: Event | None = None,
    on_epoch: OnEpoch | None = None,
    places: Places = NOWHERE,
) -> Fitted:
    """Train on one label per timestep until the validation loss has not improved for `recipe.patience` epochs.

    Labels and losses of padded timesteps do not count. Same parts, recipe and seed: same weights, on one kind of CPU.

    Args:
        parts: training, validation and held-out sequences.
        recipe: network and fitting.
        seed: of weights, dropout and shuffling; sets the seeds of Python, numpy and Keras for the process.
        stop: when set, fitting ends after the running batch and keeps the best weights so far.
        on_epoch: called after each epoch.
        places: what is kept while training goes on.

    Raises:
        KeyboardInterrupt: `stop` was set in the first epoch, when there is nothing worth keeping.
    """
    setup_tensorflow(gpu=True)
    started = time.monotonic()
    places.open({"recipe": recipe.facts(), "seed": seed, **parts.facts()}, join(parts.train, parts.validation))
    scaling = Scaling.of(parts.train.inputs)
    padded = is_padded(parts)
    stop = stop or Event()
    member = fit_member(
        parts.train, parts.validation, scaling, recipe, seed, name=parts.train.name, padded=padded, stop=stop,
        on_epoch=on_epoch, places=places,
    )  # fmt: skip
    facts = {
        "dataset": parts.train.name,
        **parts.facts(),
        "seed": seed,
        "recipe": recipe.facts(),
        "epochs": len(member.history["loss"]),
        "best_epoch": member.best_epoch,
        "interrupted": stop.is_set(),
        "loss": {name: losses[member.best_epoch - 1] for name, losses in member.history.items()},
        "accuracy": accuracy_by_share(
            predict(member.model, parts.test.inputs), parts.test.timestep_labels or parts.test.labels
        ),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions("aeon", "keras", "numpy", "tensorflow"),
    }
    return Fitted(member.model, parts.train.features, outputs_of(parts.train.classes), scaling, member.history, facts)


def is_padded(parts: Split) -> bool:
    """Whether the sequences differ in length."""
    lengths = np.concatenate([parts.train.lengths, parts.validation.lengths, parts.test.lengths])
    return bool((lengths != lengths[0]).any())


def outputs_of(classes: tuple[str, ...]) -> tuple[str, ...]:
    """What the artifact calls the model's outputs: of two classes, the second alone has a probability."""
    return classes[1:] if len(classes) == 2 else classes


def versions(*names: str) -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = installed_version(name)
        except PackageNotFoundError:
            continue  # sequences from elsewhere do not need aeon
    return found
