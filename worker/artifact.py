"""The artifact: a trained model and the facts that the worker needs, in one directory.

    DIR/model.keras      Keras' own format
    DIR/manifest.json    format version, digest of model.keras, features, classes, state layout, parity certificate

A manifest says the lowest format version by which it is understood: 1, or 2 with a rule for decisions or narrow states.

An artifact is trusted by its digest, so nothing here opens `model.keras`: the digest is verified over the bytes,
and only then does `keras_file` hand them to Keras.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from worker.decision import DecisionRule
from worker.errors import ArtifactRefused
from worker.model.certificate import Certificate

FORMAT_VERSION = 2
PLAIN_VERSION = 1
MODEL_NAME, MANIFEST_NAME = "model.keras", "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
MAX_MODEL_BYTES = 4 << 30
MAX_NAMES, MAX_NAME_LENGTH = 65_536, 256
MAX_STATE_SIZE = 16 << 20

StateType: TypeAlias = Literal["float32", "float16", "bfloat16"]
ROUNDING_FACTOR = 2  # what was measured is the largest of a finite draw, and another machine rounds other last bits

# The fields that a sample record has beside its features (DESIGN.md, record contracts).
RESERVED_FEATURES = frozenset({"features", "samples", "timestep", "end_of_sequence", "start_of_sequence"})


@dataclass(frozen=True)
class StateSlot:
    """One layer's piece of the flat state vector of a stream.

    Attributes:
        layer: path of the layer's call in the model; a layer that is called twice has two.
        name: what the piece is, such as `hidden_state`.
        shape: its shape for one stream, row-major.
        offset: index of its first element in the vector.
    """

    layer: str
    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        format_version: of this file; a newer one is refused, and so is a field that this version does not know.
        model_digest: SHA-256 of `model.keras`, hexadecimal.
        features: names of the input's columns, in order.
        classes: names of the output's columns; for a model with one sigmoid, the positive class alone.
        state_layout: the pieces of a stream's state, in order and without gaps; those of decisions last.
        state_size: elements per stream.
        state_dtype: what a stream's state is kept in between two timesteps; steps compute in float32.
        state_rounding: how far that moved the answers away from Keras' over the certificate's sequences; 0 for
            float32, where the certificate says it.
        scaling: what the model's own Normalization layer does, by feature; for people, the worker does not use it.
        parity: the certificate that stepping equals Keras (see `worker.model.certificate`).
        training: facts and metrics of the training run.
        decision: when an answer is sure enough to act on; None where events decide nothing.
        versions: libraries that wrote the artifact.
    """

    format_version: int
    model_digest: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    state_layout: tuple[StateSlot, ...]
    state_size: int
    parity: Certificate
    state_dtype: StateType = "float32"
    state_rounding: float = 0.0
    scaling: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    decision: DecisionRule | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        """How far an answer may be from Keras' on another machine."""
        return self.parity.tolerance + ROUNDING_FACTOR * self.state_rounding


@dataclass(frozen=True)
class Artifact:
    """A directory whose model was verified against its manifest."""

    directory: Path
    manifest: Manifest

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over all that decides an answer: model, names, type of state, rule for decisions."""
        facts: list[Any] = [self.manifest.model_digest, self.manifest.features, self.manifest.classes]
        if self.manifest.state_dtype != "float32":
            facts.append(self.manifest.state_dtype)
        if self.manifest.decision is not None:
            facts.append(self.manifest.decision)
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    @property
    def model_path(self) -> Path:
        """Where `model.keras` is."""
        return self.directory / MODEL_NAME

    def read_model(self) -> bytes:
        """The bytes of `model.keras`, verified again at this moment.

        Raises:
            ArtifactRefused: the file has changed since the manifest was written.
        """
        content = read_bounded(self.model_path, MAX_MODEL_BYTES)
        found = hashlib.sha256(content).hexdigest()
        if found != self.manifest.model_digest:
            raise ArtifactRefused(
                f"{self.model_path}: SHA-256 is {found}, the manifest promises {self.manifest.model_digest}. "
                "The model was changed or damaged after its export: copy the artifact again, or export the model anew."
            )
        return content


def read_artifact(directory: Path | str) -> Artifact:
    """Read and verify an artifact without opening its model.

    Raises:
        ArtifactRefused: a file is missing, too large or malformed, the format version or a field is unknown, the
            manifest contradicts itself, or `model.keras` is not the file that was exported.
    """
    directory = Path(directory)
    path = directory / MANIFEST_NAME
    text = read_bounded(path, MAX_MANIFEST_BYTES)
    try:
        version = msgspec.json.decode(text, type=_Versioned).format_version
        if not PLAIN_VERSION <= version <= FORMAT_VERSION:
            raise ArtifactRefused(
                f"{path}: format version {version}, this cellstream reads {PLAIN_VERSION} to {FORMAT_VERSION}: "
                "use the cellstream that wrote it, or export the model again with this one."
            )
        manifest = msgspec.json.decode(text, type=Manifest)
        unknown = _unknown(msgspec.json.decode(text), msgspec.to_builtins(manifest))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactRefused(f"{path}: not a manifest ({error}): export the model again.") from None
    if unknown:
        raise ArtifactRefused(
            f"{path}: {_quote(unknown)}: this cellstream does not know that, and may answer otherwise than was meant: "
            "use the cellstream that wrote it, or export the model again with this one."
        )
    artifact = Artifact(directory, manifest)
    problems = [*name_problems(manifest.features, manifest.classes), *_contradictions(manifest)]
    if problems:
        raise ArtifactRefused(f"{path}: {'; '.join(problems)}: export the model again.")
    artifact.read_model()
    return artifact


def write_artifact(
    model: Any,
    directory: Path | str,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    scaling: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    state_dtype: StateType = "float32",
    decision: DecisionRule | None = None,
) -> Artifact:
    """Export a Keras model: step it, compare it with itself, and write the artifact when it holds.

    Other files of the directory stay. The same model and facts give the same bytes.

    Args:
        model: a built Keras model with input `(batch, time, features)` and output `(batch, time, classes)` or
            `(batch, classes)`, ending in a sigmoid of width 1 or a softmax.
        directory: created when missing; an artifact in it is replaced.
        features: one name per input column, in order.
        classes: one name per output column; the positive class alone for a sigmoid.
        scaling: facts about the model's own Normalization layer.
        training: facts and metrics of the training run; must be JSON.
        state_dtype: `float16` and `bfloat16` halve the memory of a stream, and round its state after every timestep.
        decision: when an answer is sure enough to act on.

    Raises:
        NotStreamable: a layer cannot be advanced sample by sample, or its state not be rounded.
        ArtifactRefused: names do not fit the model, the output is no probability, or parity does not hold: a wrong
            step, or a model that amplifies rounding.
    """
    from worker.model.export import write  # imports TensorFlow

    return write(model, Path(directory), tuple(features), tuple(classes), scaling, training, state_dtype, decision)


def name_problems(features: Sequence[str], classes: Sequence[str]) -> list[str]:
    """What is wrong with the names of columns; empty when nothing is."""
    problems = []
    for kind, names in (("features", features), ("classes", classes)):
        if not 1 <= len(names) <= MAX_NAMES:
            problems.append(f"{kind}: expected 1 to {MAX_NAMES} names, received {len(names)}")
        doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if doubled:
            problems.append(f"{kind}: {_quote(doubled)} occur more than once")
        unusable = [name for name in names if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable()]
        if unusable:
            problems.append(f"{kind}: names have 1 to {MAX_NAME_LENGTH} printable characters, not {_quote(unusable)}")
    reserved = sorted(RESERVED_FEATURES.intersection(features))
    if reserved:
        problems.append(f"features: {_quote(reserved)} are fields of a sample record already: choose another name")
    return problems


def _contradictions(manifest: Manifest) -> list[str]:
    """What contradicts itself in a manifest's digest, certificate and state layout."""
    problems = []
    if not manifest.parity.holds:
        problems.append("its certificate does not hold")
    if not re.fullmatch("[0-9a-f]{64}", manifest.model_digest):
        problems.append("model_digest is not a SHA-256 in hexadecimal")
    end = 0
    for slot in manifest.state_layout:
        if slot.offset != end or any(not 1 <= axis <= MAX_STATE_SIZE for axis in slot.shape):
            problems.append(f"state slot {slot.layer}/{slot.name} does not follow the one before it")
            break
        end += slot.size
    if manifest.decision is not None:
        problems += manifest.decision.problems(manifest.classes)
    if end != manifest.state_size or end > MAX_STATE_SIZE:
        problems.append(f"state_size is {manifest.state_size}, the layout has {end}, at most {MAX_STATE_SIZE} can be")
    return problems


def read_bounded(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes.

    Raises:
        ArtifactRefused: it is larger, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ArtifactRefused(
            f"{path}: {error.strerror}. An artifact is a directory with {MODEL_NAME} and {MANIFEST_NAME}; "
            "`cellstream export MODEL.keras DIR` and `cellstream train DATA --out DIR` write one."
        ) from None
    if len(content) > limit:
        raise ArtifactRefused(f"{path}: larger than {limit} bytes, which no artifact is.")
    return content


def _unknown(found: Any, understood: Any) -> list[str]:
    """Fields of a manifest, at any depth, that were not taken up when it was read."""
    if isinstance(found, dict) and isinstance(understood, dict):
        inner = (_unknown(value, understood[name]) for name, value in found.items() if name in understood)
        return [*(name for name in found if name not in understood), *chain.from_iterable(inner)]
    if isinstance(found, list) and isinstance(understood, list | tuple):
        return list(chain.from_iterable(map(_unknown, found, understood)))
    return []


def _quote(names: Sequence[str]) -> str:
    """A few names, escaped and bounded, for a message."""
    shown = ", ".join(repr(name[:40]) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class _Versioned(msgspec.Struct):
    """The one field that every version of the manifest has."""

    format_version: int
