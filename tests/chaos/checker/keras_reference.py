"""What Keras itself says of each sequence: probabilities after every sample, and the recurrent state.

Read from the artifact are the model file, as Keras saved it, and of the manifest the tolerance and the order of the
features; nothing of the worker's model code is used. A sequence goes through the model on its own and whole. Many are
called at once, padded at their ends: a causal model cannot look there, and a few are called alone to see that it
does not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
AT_ONCE = 25_600  # timesteps with their padding: a million sequences of one sample are soon done
ALONE = 5


@dataclass(frozen=True)
class Answers:
    """By sequence.

    Attributes:
        probabilities: `(timesteps, classes)` of each sequence.
        states: by slot of the model's state (layer, name), `(timesteps, units)` of each sequence, after each sample.
    """

    probabilities: Mapping[str, Floats]
    states: Mapping[tuple[str, str], Mapping[str, Floats]]


class KerasReference:
    """An artifact's model, called by Keras.

    Args:
        artifact: directory with `model.keras` and `manifest.json`.

    Attributes:
        features: names of the input's columns.
        tolerance: how far an output may be from Keras, as certified.
    """

    def __init__(self, artifact: Path) -> None:
        import keras

        manifest = json.loads((artifact / "manifest.json").read_text())
        self.features: tuple[str, ...] = tuple(manifest["features"])
        self.tolerance: float = manifest["parity"]["tolerance"]
        self._model = keras.saving.load_model(artifact / "model.keras", compile=False)
        self._layers = list(_recurrent(self._model))
        self._lock = threading.Lock()  # layers are overheard one call at a time

    def answers(self, sequences: Mapping[str, Sequence[Sequence[float]]], seed: int = 0) -> Answers:
        """Call the model over whole sequences.

        Args:
            sequences: `(timesteps, features)` each, at least one timestep.
            seed: chooses the sequences that are called alone, too.

        Raises:
            AssertionError: a sequence has other answers alone than among others; then this is no reference.
        """
        arrays = {name: np.array(samples, np.float32) for name, samples in sequences.items()}
        found = Answers({}, {slot: {} for _, slots in self._layers for slot in slots})
        for names in _alike(arrays):
            with self._lock:
                self._call(arrays, names, found)
        for name in Random(seed).sample(sorted(arrays), min(ALONE, len(arrays))):
            alone = Answers({}, {slot: {} for slot in found.states})
            with self._lock:
                self._call(arrays, [name], alone)
            apart = np.abs(alone.probabilities[name] - found.probabilities[name]).max()
            assert not apart > self.tolerance, f"Keras' answers for sequence {name} depend on its neighbours: {apart}"
        return found

    def _call(self, arrays: Mapping[str, Floats], names: Sequence[str], found: Any) -> None:
        longest = max(len(arrays[name]) for name in names)
        batch = np.zeros((len(names), longest, len(self.features)), np.float32)
        for row, name in enumerate(names):
            batch[row, : len(arrays[name])] = arrays[name]
        with _overheard([layer for layer, _ in self._layers]) as heard:
            answers = np.asarray(self._model(batch, training=False))
        if answers.ndim == 2:  # the model answers a whole sequence: each prefix is one
            answers = np.stack([self._model(batch[:, : t + 1], training=False) for t in range(longest)], axis=1)
        for row, name in enumerate(names):
            found.probabilities[name] = answers[row, : len(arrays[name])]
        for (layer, slots), calls in zip(self._layers, heard, strict=True):
            if len(calls) != 1:
                continue  # shared by several calls, and each has a state of its own
            states = np.asarray(_state_by_timestep(layer)(calls[0][0], mask=calls[0][1]))
            for index, slot in enumerate(slots):
                piece = states[:, :, index * layer.units : (index + 1) * layer.units]
                for row, name in enumerate(names):
                    found.states[slot][name] = piece[row, : len(arrays[name])]


def keras_reference(artifact: Path) -> KerasReference:
    """The reference of an artifact, loaded once."""
    with _loading:
        return _loaded(artifact)


_loading = threading.Lock()
_loaded = lru_cache(maxsize=4)(KerasReference)


def _recurrent(model: Any, prefix: str = "") -> Iterator[tuple[Any, list[tuple[str, str]]]]:
    """The model's recurrent layers, also in models within it, with the slots of their state."""
    import keras

    kinds = {
        keras.layers.LSTM: ("hidden_state", "cell_state"),
        keras.layers.GRU: ("hidden_state",),
        keras.layers.SimpleRNN: ("hidden_state",),
    }
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _recurrent(layer, f"{prefix}{layer.name}/")
        elif type(layer) in kinds:
            yield layer, [(prefix + layer.name, name) for name in kinds[type(layer)]]


@contextmanager
def _overheard(layers: Sequence[Any]) -> Iterator[list[list[tuple[Any, Any]]]]:
    """What each layer is called with meanwhile: sequences and mask."""
    heard: list[list[tuple[Any, Any]]] = [[] for _ in layers]

    def listening(call: Any, calls: list[tuple[Any, Any]]) -> Any:
        def listen(sequences: Any, *arguments: Any, **named: Any) -> Any:
            calls.append((sequences, named.get("mask")))
            return call(sequences, *arguments, **named)

        return listen

    with ExitStack() as undo:
        for layer, calls in zip(layers, heard, strict=True):
            undo.enter_context(patch.object(layer, "call", listening(layer.call, calls)))
        yield heard


@lru_cache(maxsize=16)
def _state_by_timestep(layer: Any) -> Any:
    """A layer over the same cell, with the same weights, whose output at each timestep is its whole state."""
    import keras

    class Telling(keras.layers.Layer):  # type: ignore[misc]
        state_size = layer.cell.state_size
        output_size = int(np.sum(layer.cell.state_size))

        def call(self, inputs: Any, states: Any) -> tuple[Any, Any]:
            _, after = layer.cell(inputs, states, training=False)
            after = list(after) if isinstance(after, list | tuple) else [after]
            return keras.ops.concatenate(after, axis=-1), after

    return keras.layers.RNN(Telling(), return_sequences=True)


def _alike(arrays: Mapping[str, Floats]) -> Iterator[list[str]]:
    """Names of sequences of similar length, so that little is padded."""
    batch: list[str] = []
    for name in sorted(arrays, key=lambda name: len(arrays[name])):
        if batch and (len(batch) + 1) * len(arrays[name]) > AT_ONCE:
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch
