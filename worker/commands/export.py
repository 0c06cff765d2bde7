"""`cellstream export`: a Keras model that somebody trained -> artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.artifact import MAX_MODEL_BYTES, StateType, read_bounded, write_artifact


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL.keras", help="File saved by Keras 3.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the artifact; made when missing.")],
    *,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Names of the input's columns, in order; x0,x1,... if not given.", show_default=False
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Names of the output's columns, in order; for one sigmoid the positive class alone. "
            "0,1,... (or positive) if not given.",
            show_default=False,
        ),
    ] = None,
    state_dtype: Annotated[
        StateType,
        typer.Option(
            help="What a stream's state is kept in; 16 bits halve its memory and round it after every timestep.",
        ),
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Turn a Keras model into an artifact, with its parity certificate.

    The model must answer (batch, time, features) with one sigmoid or a softmax, through layers that need only
    the samples so far; anything else is refused by the layer's name, with what to use instead (exit 3). Its
    stepped form is compared with Keras over every prefix of random sequences, and refused when it differs by more
    than the tolerance: 1e-6, or where it is more, four times what compiling the Keras model itself changes.

    Example: `cellstream export model.keras artifacts/pumps --features pressure,flow --classes ok,worn`
    """
    content = read_bounded(model, MAX_MODEL_BYTES)
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    from worker.commands.check import report, show
    from worker.model.graph import StepGraph
    from worker.model.keras_file import open_model
    from worker.model.step_model import load_step_model

    opened = open_model(content, str(model))
    graph = StepGraph(opened)
    artifact = write_artifact(
        opened,
        directory,
        features=_split(features) or [f"x{column}" for column in range(graph.features)],
        classes=_split(classes) or graph.default_classes,
        state_dtype=state_dtype,
    )
    show(report(artifact, load_step_model(artifact)), as_json)


def _split(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []
