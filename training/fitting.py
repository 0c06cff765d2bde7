"""Fit a network to labelled sequences: a loss at every timestep, early stopping, the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from training.datasets import Sequences, Split
from training.evaluation import accuracy_by_share, predict
from training.networks import Recipe, Scaling, build
from training.padding import check_labels, pad, repeat_labels
from worker.model.tensorflow_setup import setup_tensorflow

if TYPE_CHECKING:
    from worker.artifact import Artifact

# epoch (from 1), training loss, validation loss
OnEpoch = Callable[[int, float, float], None]


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
        from worker.artifact import write_artifact

        artifact = write_artifact(
            self.model,
            directory,
            features=self.features,
            classes=self.classes,
            training=self.facts,
            scaling=self.scaling.facts(self.features),
        )
        write_history(self.history, self.facts["best_epoch"], directory, self.facts["dataset"])
        return artifact


def fit(
    parts: Split, recipe: Recipe, seed: int = 0, *, stop: Event | None = None, on_epoch: OnEpoch | None = None
) -> Fitted:
    """Train on one label per timestep until the validation loss has not improved for `recipe.patience` epochs.

    Labels and losses of padded timesteps do not count. Same parts, recipe and seed: same weights, on one kind of CPU.

    Args:
        parts: training, validation and held-out sequences.
        recipe: network and fitting.
        seed: of weights, dropout and shuffling; sets the seeds of Python, numpy and Keras for the process.
        stop: when set, fitting ends after the running batch and keeps the best weights so far.
        on_epoch: called after each epoch.

    Raises:
        KeyboardInterrupt: `stop` was set in the first epoch, when there is nothing worth keeping.
    """
    setup_tensorflow()
    import keras

    started = time.monotonic()
    classes = len(parts.train.classes)
    scaling = Scaling.of(parts.train.inputs)
    lengths = np.concatenate([parts.train.lengths, parts.validation.lengths, parts.test.lengths])
    padded = bool((lengths != lengths[0]).any())
    keras.utils.set_random_seed(seed)
    model = build(parts.train.name, classes, scaling, recipe, padded=padded)
    model.compile(
        # A recording that is wrong at every timestep has a long gradient; clipping keeps it from undoing the rest.
        optimizer=keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0),
        loss=_loss(classes, recipe.label_smoothing),
    )
    best = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience, restore_best_weights=True)
    stop = stop or Event()
    inputs, labels = _arrays(parts.train, classes)
    epochs = model.fit(
        inputs,
        labels,
        validation_data=_arrays(parts.validation, classes),
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[best, _watch(stop, on_epoch)],
    ).history
    bare = build(parts.train.name, classes, scaling, recipe, padded=padded)
    bare.set_weights(model.get_weights())
    history = {name: [float(loss) for loss in epochs[name]] for name in ("loss", "val_loss")}
    facts = {
        "dataset": parts.train.name,
        "sequences": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "seed": seed,
        "recipe": {**vars(recipe), "units": list(recipe.units)},
        "epochs": len(history["loss"]),
        "best_epoch": best.best_epoch + 1,
        "interrupted": stop.is_set(),
        "loss": {name: history[name][best.best_epoch] for name in ("loss", "val_loss")},
        "accuracy": accuracy_by_share(
            predict(bare, parts.test.inputs), parts.test.timestep_labels or parts.test.labels
        ),
        "seconds": round(time.monotonic() - started, 1),
        "versions": _versions("aeon", "keras", "numpy", "tensorflow"),
    }
    return Fitted(bare, parts.train.features, outputs_of(parts.train.classes), scaling, history, facts)


def outputs_of(classes: tuple[str, ...]) -> tuple[str, ...]:
    """What the artifact calls the model's outputs: of two classes, the second alone has a probability."""
    return classes[1:] if len(classes) == 2 else classes


def _arrays(part: Sequences, classes: int) -> tuple[Any, Any]:
    """Inputs `(n, timesteps, features)`, padded, and targets `(n, timesteps, outputs)`."""
    inputs = pad(part.inputs)
    labels = repeat_labels(part.labels, inputs.shape[1])
    for row, own in enumerate(part.timestep_labels or ()):
        labels[row, : len(own), 0] = own  # what stands behind its end is masked
    check_labels(labels, inputs)
    return inputs, labels if classes == 2 else np.eye(classes, dtype=np.float32)[labels[..., 0]]


def _loss(classes: int, label_smoothing: float) -> Any:
    """Cross-entropy; a mask that comes with the predictions takes padded timesteps out of it."""
    import keras

    kind = keras.losses.BinaryCrossentropy if classes == 2 else keras.losses.CategoricalCrossentropy
    return kind(label_smoothing=label_smoothing)


def _watch(stop: Event, on_epoch: OnEpoch | None) -> Any:
    """A callback that reports epochs and ends training when `stop` is set."""
    import keras

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if stop.is_set():
                self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if stop.is_set() and epoch == 0:
                raise KeyboardInterrupt
            if on_epoch is not None:
                on_epoch(epoch + 1, logs["loss"], logs["val_loss"])

    return Watch()


def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # sequences from elsewhere do not need aeon
    return found
