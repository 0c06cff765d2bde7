"""The engine without Kafka: an artifact's model, stepped with explicit states from any Python program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worker.artifact import Manifest, read_artifact
from worker.blocks import step_streams
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.model.step_model import StepModel

Floats = NDArray[np.float32]


class Decision(NamedTuple):
    """What a decision rule said of a sequence.

    Attributes:
        timestep: at which it fired, from 0.
        number: of the class, an index into the rule's classes.
    """

    timestep: int
    number: int


class StreamingModel:
    """A trained model that advances any number of streams by any number of timesteps.

    It runs the worker's own engine: how a sequence is cut into calls, and which streams share a call, does not change
    a bit of the answers. States are plain arrays; keep them, save them, send them, each row belongs to one stream.

        model = StreamingModel.load("artifact")
        states = model.initial_states(2)
        probabilities, states = model.step([[0.1, 0.2], [0.3, 0.4]], states)

    Attributes:
        manifest: of the artifact: features in order, classes, layout of the state.
    """

    def __init__(self, model: StepModel, manifest: Manifest) -> None:
        self._model = model
        self.manifest = manifest

    @classmethod
    def load(cls, directory: str | Path) -> StreamingModel:
        """Open an artifact, verified.

        Raises:
            ArtifactRefused: it is damaged, or not one.
        """
        from worker.model.tensorflow_setup import setup_tensorflow

        artifact = read_artifact(Path(directory))
        setup_tensorflow()
        from worker.model.step_model import load_step_model

        return cls(load_step_model(artifact), artifact.manifest)

    def initial_states(self, batch: int) -> NDArray[Any]:
        """`(batch, state_size)` of the artifact's state type: the states that sequences start from."""
        return np.tile(self._model.initial_state, (batch, 1))

    def step(self, inputs: ArrayLike, states: NDArray[Any]) -> tuple[Floats, NDArray[Any]]:
        """Advance a batch of streams.

        Args:
            inputs: `(batch, features)`, one timestep, or `(batch, timesteps, features)`.
            states: `(batch, state_size)`; not modified.

        Returns:
            Probabilities `(batch, classes)`, or `(batch, timesteps, classes)`, and the states after the last timestep.

        Raises:
            UsageError: a shape does not fit the model, or a number is not finite.
        """
        x = self._checked(inputs)
        if x.ndim not in (2, 3) or states.shape != (len(x), self._model.state_size):
            raise UsageError(
                f"expected inputs (batch, {self._model.features}) or (batch, timesteps, {self._model.features}) and "
                f"states (batch, {self._model.state_size}), received {x.shape} and {states.shape}"
            )
        batch, timesteps = len(x), x.shape[1] if x.ndim == 3 else 1
        moved = np.array(states, self._model.initial_state.dtype)
        if not batch * timesteps:
            return np.empty((*x.shape[:-1], self._model.probabilities), np.float32), moved
        flat = x.reshape(batch * timesteps, -1)
        counts = np.full(batch, timesteps, np.int64)
        outputs, _ = step_streams(self._model, flat, np.zeros(len(flat), np.bool_), counts, moved)
        return outputs[:, : self._model.probabilities].reshape(*x.shape[:-1], -1), moved

    def run(self, sequence: ArrayLike) -> Floats:
        """Answer a whole sequence, `(timesteps, features)` -> `(timesteps, classes)`.

        Raises:
            UsageError: as `step`.
        """
        x = self._checked(sequence)
        if x.ndim != 2:
            raise UsageError(f"expected a sequence (timesteps, {self._model.features}), received {x.shape}")
        probabilities, _ = self.step(x[None], self.initial_states(1))
        answers: Floats = probabilities[0]
        return answers

    def run_all(self, sequences: Iterable[ArrayLike]) -> list[Floats]:
        """Answer whole sequences of any lengths, many at a time; to the bit what `run` answers each alone.

        Args:
            sequences: each `(its timesteps, features)`.

        Returns:
            For each `(its timesteps, classes)`.

        Raises:
            UsageError: as `step`.
        """
        return self.decide_all(sequences)[0]

    def decide_all(self, sequences: Iterable[ArrayLike]) -> tuple[list[Floats], list[Decision | None]]:
        """As `run_all`, with what the artifact's rule decides of each sequence.

        Args:
            sequences: each `(its timesteps, features)`.

        Returns:
            For each its answers `(its timesteps, classes)`; and its decision, or None where the rule never fires or the
            artifact has none.

        Raises:
            UsageError: as `step`.
        """
        checked = [self._checked(sequence) for sequence in sequences]
        for x in checked:
            if x.ndim != 2:
                raise UsageError(f"expected sequences (timesteps, {self._model.features}), received {x.shape}")
        lengths = np.array([len(x) for x in checked], np.int64)
        if not lengths.sum():
            return [np.empty((0, self._model.probabilities), np.float32) for _ in checked], [None] * len(checked)
        flat = np.concatenate(checked)
        counts = lengths[lengths > 0]
        states = self.initial_states(len(counts))
        outputs, _ = step_streams(self._model, flat, np.zeros(len(flat), np.bool_), counts, states)
        split = np.split(outputs, np.cumsum(lengths)[:-1])
        answers = [own[:, : self._model.probabilities] for own in split]
        return answers, [self._decision(own[:, self._model.probabilities :]) for own in split]

    def _decision(self, column: Floats) -> Decision | None:
        """Of the deciding column `(timesteps, 1)`, or `(timesteps, 0)` where there is no rule."""
        fired = np.flatnonzero(column)
        return Decision(int(fired[0]), int(column[fired[0], 0]) - 1) if len(fired) else None

    def _checked(self, inputs: ArrayLike) -> NDArray[Any]:
        x = np.ascontiguousarray(inputs, np.float32)
        if not x.ndim or x.shape[-1] != self._model.features:
            raise UsageError(f"expected {self._model.features} features in the last axis, received {x.shape}")
        if not np.isfinite(x).all():
            raise UsageError("inputs hold NaN, infinity, or a number too large for float32")
        return x
