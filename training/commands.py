"""The command `train`: a data set -> an artifact, with the history of its training beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from worker.errors import UsageError


def train(
    data: Annotated[str, typer.Argument(metavar="DATA", help="bundled set: basic-motions or japanese-vowels")],
    out: Annotated[Path, typer.Option("--out", help="directory of the artifact; made or replaced", show_default=False)],
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the split, the weights and the shuffling")] = 0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="at most so many; early stopping may end sooner")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="facts of the training as one JSON object")] = False,
) -> None:
    """Train an LSTM on a data set and write the artifact that `cellstream run` serves.

    The label of a sequence is learned at every timestep, so that the model has an answer after each sample. The
    scaling of the inputs is a layer of the model. A quarter of the sequences is held out: the accuracies come from
    it, and `cellstream publish DATA` sends it. Beside the artifact: history.json and history.png, the loss of every
    epoch.

    Ctrl-C ends the training early and keeps the best weights so far; a second one leaves everything as it was.

    Example: cellstream train basic-motions --out artifacts/basic-motions
    """
    from training.datasets import load, split
    from training.networks import RECIPES
    from training.progress import epoch_bar, stop_on_interrupt

    console = Console(stderr=True, highlight=False)
    parts = split(load(data), seed)
    recipe = RECIPES[data]
    if epochs is not None:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: expected a directory, found a file")
    from training.fitting import fit

    with stop_on_interrupt(console) as stop:
        with epoch_bar(console, recipe.epochs) as on_epoch:
            fitted = fit(parts, recipe, seed, stop=stop, on_epoch=on_epoch)
        artifact = fitted.write(out)
    if as_json:
        print(json.dumps({"artifact": str(out), "digest": artifact.digest, **fitted.facts}))
    else:
        _tell(fitted.facts, out, artifact.digest)


def _tell(facts: dict[str, Any], out: Path, digest: str) -> None:
    sequences = facts["sequences"]
    accuracy = ", ".join(f"{share} {value:.2f}" for share, value in facts["accuracy"].items())
    print(
        f"{facts['dataset']}: trained on {sequences['train']} sequences in {facts['seconds']} s, "
        f"kept epoch {facts['best_epoch']} of {facts['epochs']}"
    )
    print(f"accuracy on {sequences['test']} held-out sequences, by share of each: {accuracy}")
    print(f"artifact {out} (digest {digest[:12]}), with history.json and history.png")
