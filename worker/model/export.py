"""Writing an artifact: step the model, prove that stepping equals Keras, and put both files in place."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from worker.artifact import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    MODEL_NAME,
    PLAIN_VERSION,
    Artifact,
    Manifest,
    StateType,
    name_problems,
    read_artifact,
)
from worker.decision import DecisionRule
from worker.errors import ArtifactRefused
from worker.installed import installed_version
from worker.model.graph import StepGraph
from worker.model.keras_file import model_bytes, open_model
from worker.model.parity import certify
from worker.model.step_model import StepModel

ROUNDING_CEILING = 0.01  # of a probability: who asks for narrow states knows that they cost something


def write(
    model: Any,
    directory: Path,
    features: tuple[str, ...],
    classes: tuple[str, ...],
    scaling: Mapping[str, Any] | None,
    training: Mapping[str, Any] | None,
    state_dtype: StateType,
    decision: DecisionRule | None,
) -> Artifact:
    """Export a model; see `artifact.write_artifact`."""
    require_fit(StepGraph(model), features, classes)
    problems = [] if decision is None else decision.problems(classes)
    if problems:
        raise ArtifactRefused("; ".join(problems) + ".")
    # Everything is proven on the model as it will be read back, not on the one in memory.
    content = model_bytes(model)
    stored = open_model(content, MODEL_NAME)
    stepped = StepModel(stored, rule=decision)
    certificate = certify(stored, stepped)
    if not certificate.holds:
        raise ArtifactRefused(certificate.problem)
    rounding = 0.0
    if state_dtype != "float32":
        rounding = certify(stored, StepModel(stored, state_dtype, decision)).largest_difference
        if not rounding <= ROUNDING_CEILING:
            raise ArtifactRefused(
                f"states in {state_dtype} move an answer by {rounding:.2g}, at most {ROUNDING_CEILING:g} may be: keep "
                "them in float32" + (", or try float16, which is finer" if state_dtype == "bfloat16" else "") + "."
            )
    manifest = Manifest(
        format_version=PLAIN_VERSION if state_dtype == "float32" and decision is None else FORMAT_VERSION,
        model_digest=hashlib.sha256(content).hexdigest(),
        features=features,
        classes=classes,
        state_layout=stepped.layout,
        state_size=stepped.state_size,
        parity=certificate,
        state_dtype=state_dtype,
        state_rounding=rounding,
        scaling=None if scaling is None else dict(scaling),
        training=None if training is None else dict(training),
        decision=decision,
        versions={name: installed_version(name) for name in ("cellstream", "keras", "numpy", "tensorflow")},
    )
    # The manifest goes last: it makes the directory an artifact. A reader in between finds a digest that does not fit
    # and refuses; it never finds a wrong model.
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / MODEL_NAME, content)
    _replace(directory / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return read_artifact(directory)


def require_fit(graph: StepGraph, features: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Refuse names that do not fit the model's columns, and an output that is no probability.

    Raises:
        ArtifactRefused: with every problem and its remedy.
    """
    problems = name_problems(features, classes)
    if len(features) != graph.features:
        problems.append(f"features: the model takes {graph.features} columns, {len(features)} names were given")
    if len(classes) != graph.outputs:
        several = ", ".join(f"{head.name}: {head.width}" for head in graph.heads)
        problems.append(
            f"classes: the model answers with {graph.outputs} columns, {len(classes)} names were given"
            + (" (for one sigmoid: the name of the positive class alone)" if graph.outputs == 1 else "")
            + (f" (the outputs one behind the other: {several})" if len(graph.heads) > 1 else "")
        )
    for head in graph.heads:
        wanted = "sigmoid" if head.width == 1 else "softmax"
        if head.activation != wanted:
            problems.append(
                f"output '{head.name}': its {head.width} columns come out of {head.activation!r}, which are no "
                f"probabilities: end it with Dense({head.width}, activation='{wanted}')"
                + ("" if head.width == 1 else ", or with an output of its own, a sigmoid of width 1, for each label")
            )
    if problems:
        raise ArtifactRefused("; ".join(problems) + ".")


def _replace(path: Path, content: bytes) -> None:
    """Put a file in place whole or not at all, also when the machine stops."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
