"""The memory of a training that may be killed: Keras' BackupAndRestore, and what early stopping knows beside it.

After every epoch a directory has the weights, the optimizer's state, the losses so far and the best weights. The same
call of `fit` goes on from there and learns what it would have learned: batches, changes and dropout are drawn by the
seed and the number of the epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.datasets import Sequences
from worker.errors import UsageError

PLAN = "plan.json"


class BestWeights(keras.callbacks.EarlyStopping):
    """Early stopping on the validation loss that keeps the losses, and outlives a kill where it is given a directory.

    Attributes:
        losses: `loss` and `val_loss` of every epoch, those before a kill too.

    Args:
        patience: epochs without a better validation loss.
        directory: for the memory; None for none.
    """

    def __init__(self, patience: int, directory: Path | None) -> None:
        super().__init__("val_loss", patience=patience, restore_best_weights=True)
        self.losses: dict[str, list[float]] = {"loss": [], "val_loss": []}
        self._directory = directory
        self._backup = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._backup = keras.callbacks.BackupAndRestore(
                str(directory / "keras"), double_checkpoint=True, delete_checkpoint=False
            )

    def on_train_begin(self, logs: Any = None) -> None:
        """Take up what is in the directory."""
        super().on_train_begin(logs)
        if self._backup is None:
            return
        self._backup.set_model(self.model)
        self._backup.on_train_begin()
        epochs = self.model._initial_epoch or 0
        if not epochs:
            return
        with np.load(self._file(epochs), allow_pickle=False) as kept:
            self.losses = {name: kept[name].tolist() for name in self.losses}
            self.best, self.best_epoch, self.wait = float(kept["best"]), int(kept["best_epoch"]), int(kept["wait"])
            self.best_weights = [kept[f"weights_{number}"] for number in range(len(self.model.weights))]
        if self.wait >= self.patience:
            self.model._initial_epoch = self.params["epochs"]  # it had stopped: nothing is left to learn

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the losses, and write the memory."""
        super().on_epoch_end(epoch, logs)
        for name, losses in self.losses.items():
            losses.append(float(logs[name]))
        if self._backup is None:
            return
        # First ours, then Keras': a kill between the two leaves Keras an epoch behind, and its own file is still there.
        path = self._file(epoch + 1)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        kept: dict[str, Any] = {"best": self.best, "best_epoch": self.best_epoch, "wait": self.wait, **self.losses}
        kept |= {f"weights_{number}": array for number, array in enumerate(self.best_weights or [])}
        np.savez(partial, **kept)
        partial.replace(path)
        self._backup.on_epoch_end(epoch)

    def _file(self, epochs: int) -> Path:
        """Of the memory after so many epochs; two are kept."""
        assert self._directory is not None
        return self._directory / f"best-{epochs % 2}.npz"


def open_memory(directory: Path, plan: dict[str, Any], sequences: Sequences) -> None:
    """See that a directory is empty, or the memory of this same training.

    Args:
        directory: made if it is not there.
        plan: what is done: recipe, seed, folds.
        sequences: all that are learned.

    Raises:
        UsageError: it is the memory of another training, or has other files in it.
    """
    digest = hashlib.sha256()
    for inputs, name in zip(sequences.inputs, sequences.stream_ids, strict=True):
        digest.update(f"{name} {inputs.shape}".encode() + inputs.tobytes())
    digest.update(sequences.labels.tobytes())
    text = json.dumps({**plan, "sequences": digest.hexdigest()}, indent=2, sort_keys=True) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / PLAN
    if not path.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is no memory of a training and not empty: name another directory")
    if path.exists() and path.read_text() != text:
        raise UsageError(
            f"{directory} remembers another training (data, seed, network or options differ): name another directory, "
            "or remove it"
        )
    path.write_text(text)
