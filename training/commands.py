"""The command `train`: a data set -> an artifact, with the history of its training beside it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from training.tables import options
from worker.errors import UsageError

if TYPE_CHECKING:
    from training.fitting import Fitted
    from training.networks import Recipe
    from training.recipe_file import Ensemble

Share = float | None


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Bundled set (basic-motions, japanese-vowels), a table's file, or a database's URL."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Directory of the artifact; made or replaced.", show_default=False)
    ],
    *,
    stream_id: options.StreamId = None,
    label: options.Label = None,
    features: options.Features = None,
    order: options.Order = None,
    sequence: options.Sequence = None,
    label_per: options.LabelPer = None,
    table: options.TableName = None,
    hold_out: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.9, help="Of the streams, for the accuracies only; 0: learn all."),
    ] = 0.25,
    split_by: Annotated[
        str, typer.Option("--split", metavar="HOW", help="`chance`, or `time`: hold out the streams that begin last.")
    ] = "chance",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split, the weights and the shuffling.")] = 0,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network: lstm, gru, conv-gru, seed-32-16-8; if not given, a bundled set's own, or seed-32-16-8.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Python file with build(features, classes), in place of the layers."),
    ] = None,
    recipe_file: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="Network and ensemble as TOML, as `cellstream tune` writes it."),
    ] = None,
    jitter: Annotated[
        Share, typer.Option(min=0, help="Noise on every sample in training, in standard deviations of its feature.")
    ] = None,
    scale: Annotated[
        Share, typer.Option(min=0, help="How far a sequence's features are stretched in training, as a share.")
    ] = None,
    offset: Annotated[
        Share, typer.Option(min=0, help="How far they are moved in training, in their standard deviations.")
    ] = None,
    warp: Annotated[
        Share, typer.Option(min=0, help="How far the speed of a sequence changes in training, as a share.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", min=0, help="Members of an ensemble, one for each fold; 0: one network."),
    ] = None,
    smoothing: Annotated[
        Share, typer.Option(min=0, max=0.99, help="With --folds: share of the past in every answer.")
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL", help="With --folds: decide, `early`, or with at most this share of false alarms, as 0.05."
        ),
    ] = None,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Rare classes count as much as frequent ones.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="At most so many; early stopping may end sooner.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Remember the training there after every epoch; go on from there after a kill."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write logs for TensorBoard there.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Facts of the training as one JSON object.")] = False,
) -> None:
    """Train a recurrent network on a data set and write the artifact that `cellstream run` serves.

    The label of a sequence is learned at every timestep, so that the model has an answer after each sample. The
    scaling of the inputs is a layer of the model. A quarter of the streams is held out (`--hold-out`, `--split`): the
    accuracies come from it, and of a bundled set `cellstream publish DATA --artifact OUT` sends it. Beside the
    artifact: history.json and history.png, the loss of every epoch.

    **Your own data** is a flat table with a row for each sample: CSV, Parquet, NumPy .npz (an array for each
    column), SQLite, or any database by its SQLAlchemy URL. Rows with one stream ID are one sequence. The label is a
    class of any name: text, whole numbers, booleans. Two classes give one probability, that of the second in the
    order of their names; more give one for each. Before training it is told what is in the table; a table with
    problems is refused with all of them, each with its column and rows. Streams are never divided between training,
    validation and test.

    `--scale`, `--offset` and `--warp` change every sequence anew in every epoch, and `--jitter` every sample: for few
    recordings, and for what will be recorded elsewhere. The preset `conv-gru` brings noise, scale and warp.

    `--folds 4` trains four networks, each on three quarters of training and validation, and writes one model: the mean
    of the four, smoothed if `--smoothing` says so, and calibrated: a temperature for every timestep, fitted to what
    each network said of the quarter that it did not learn. These trajectories are kept beside the model.

    `--decision early` finds the limits, by class and elapsed time, at which acting on an answer has the best harmonic
    mean of accuracy and 1 - earliness on them; `--decision 0.05` those that at most 5 % of the sequences of other
    classes reach. The worker then adds "decision" to the first event of a sequence that reaches its limit.

    `--resume DIR`: the same command, given again after a kill, ends with the same model; DIR is removed then.

    Ctrl-C ends the training early and keeps the best weights so far; a second one, or the first with --folds, leaves
    everything as it was.

    Example: `cellstream train basic-motions --out artifacts/basic-motions`

    Example: `cellstream train runs.csv --stream-id run --label fault --features pressure,flow --order time --out pumps`
    """
    from training.datasets import split
    from training.fitting import fit
    from training.member import Places
    from training.progress import epoch_bar, stop_on_interrupt
    from training.tables.reading import is_table

    console = Console(stderr=True, highlight=False)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: expected a directory, found a file")
    if split_by not in ("chance", "time"):
        raise UsageError(f"--split {split_by}: expected chance or time")
    if resume is not None and _nested(resume.resolve(), out.resolve()):
        raise UsageError(f"--resume {resume}: expected a directory apart from that of the artifact")
    recipe, together = _recipe(data, preset, recipe_file)
    said: dict[str, Any] = {"folds": folds, "smoothing": smoothing, "decision": decision}
    together = dataclasses.replace(together, **_given(said))
    _check(together)
    said = {"epochs": epochs, "noise": jitter, "scale": scale, "offset": offset, "warp": warp}
    recipe = dataclasses.replace(recipe, **_given({**said, "class_weights": class_weights or None, "file": network}))
    sequences = options.TableOptions(stream_id, label, features, order, sequence, label_per, table).read(data)
    parts = split(sequences, seed, hold_out, by_time=split_by == "time")
    described: dict[str, Any] = {}
    if is_table(data):
        from training.tables.report import describe, lines

        described = {"data": describe(sequences, parts)}
        console.print("\n".join(lines(described["data"])), markup=False, soft_wrap=True)
    places = Places(resume, tensorboard)
    if together.folds:
        from training.folds import fit_folds

        try:
            with epoch_bar(console, together.folds * recipe.epochs) as on_epoch:
                fitted: Fitted = fit_folds(parts, recipe, seed, **vars(together), on_epoch=on_epoch, places=places)
        except KeyboardInterrupt:
            further = f"; the same command goes on from what is in {resume}" if resume is not None else ""
            console.print(f"stopped, and nothing written{further}", markup=False, soft_wrap=True)
            raise
        artifact = fitted.write(out)
    else:
        with stop_on_interrupt(console) as stop:
            with epoch_bar(console, recipe.epochs) as on_epoch:
                fitted = fit(parts, recipe, seed, stop=stop, on_epoch=on_epoch, places=places)
            artifact = fitted.write(out)
    if resume is not None:
        shutil.rmtree(resume)
    if as_json:
        print(json.dumps({"artifact": str(out), "digest": artifact.digest, **fitted.facts, **described}))
    else:
        _tell(fitted.facts, out, artifact.digest)


def _nested(one: Path, other: Path) -> bool:
    """Whether two directories are the same, or one is in the other."""
    return one in (other, *other.parents) or other in one.parents


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """What was said; the rest stays as it is."""
    return {name: value for name, value in values.items() if value is not None}


def _recipe(data: str, preset: str | None, recipe_file: Path | None) -> tuple[Recipe, Ensemble]:
    """The network and the ensemble, by the name of a preset, by a file, or of a bundled set."""
    from training.networks import PRESETS, RECIPES, Recipe
    from training.recipe_file import Ensemble, read_recipe

    if recipe_file is not None:
        if preset is not None:
            raise UsageError("--preset and --recipe: a recipe names its preset itself; leave out one of them")
        return read_recipe(recipe_file)
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    return RECIPES.get(data, Recipe()) if preset is None else PRESETS[preset], Ensemble()


def _check(together: Ensemble) -> None:
    """See that an ensemble's options fit each other."""
    if together.folds == 1:
        raise UsageError("--folds 1: an ensemble has at least 2 members; leave it out for a single network")
    if (together.smoothing or together.decision is not None) and not together.folds:
        raise UsageError("--smoothing and --decision take an ensemble: say of how many with --folds, such as --folds 4")
    if together.decision is not None and together.decision != "early":
        from training.decisions import rate_of

        rate_of(together.decision)


def _tell(facts: dict[str, Any], out: Path, digest: str) -> None:
    sequences = facts["sequences"]
    accuracy = ", ".join(f"{share} {value:.2f}" for share, value in facts["accuracy"].items())
    if "folds" in facts:
        learned = sequences["train"] + sequences["validation"]
        epochs = ", ".join(map(str, facts["best_epochs"]))
        how = f"{facts['folds']} networks on {learned} sequences in {facts['seconds']} s, kept epochs {epochs}"
    else:
        how = (
            f"trained on {sequences['train']} sequences in {facts['seconds']} s, "
            f"kept epoch {facts['best_epoch']} of {facts['epochs']}"
        )
    print(f"{facts['dataset']}: {how}")
    if sequences["test"]:
        print(f"accuracy on {sequences['test']} held-out sequences, by share of each: {accuracy}")
    else:
        print("nothing was held out: `cellstream evaluate` tells on other data how good it is")
    if "decision" in facts:
        of, told = "them", facts["decision"].get("test")
        if told is None:
            of, told = "the sequences that a member had not learned", facts["decision"]["out_of_fold"]
        print(
            f"decided rightly on {told['accuracy']:.2f} of {of}, having seen {told['earliness']:.2f} of each "
            f"(harmonic mean {told['harmonic_mean']:.2f}, undecided {told['undecided']:.2f})"
        )
    print(f"artifact {out} (digest {digest[:12]}), with history.json and history.png")
