"""The command `tune`: search for a network by what its members say of sequences that they did not learn.

The score is the log loss over all timesteps, out of fold: it asks for answers that are right, early, and no surer than
they may be. A trial that is worse after some folds than half of the others were is given up.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from training.apart import apart
from training.search_space import as_parameters, drawn, network_of
from training.tables import options
from worker.errors import UsageError


def tune(
    data: Annotated[str, typer.Argument(metavar="DATA", help="As `cellstream train` takes it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The recipe, as TOML.", show_default=False)],
    *,
    stream_id: options.StreamId = None,
    label: options.Label = None,
    features: options.Features = None,
    order: options.Order = None,
    sequence: options.Sequence = None,
    label_per: options.LabelPer = None,
    table: options.TableName = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="What the search begins with.")] = "conv-gru",
    trials: Annotated[int, typer.Option(min=1, help="Networks to try, the preset among them.")] = 20,
    folds: Annotated[int, typer.Option(min=2, help="Of each trial, and of the recipe's ensemble.")] = 4,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many for each network.")] = None,
    hold_out: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=0.9, help="As `cellstream train`: never seen by the search.")
    ] = 0.25,
    split_by: Annotated[str, typer.Option("--split", metavar="HOW", help="As `cellstream train`.")] = "chance",
    seed: Annotated[int, typer.Option(min=0, help="Of the division, the weights and the search.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="All trials as one JSON object.")] = False,
) -> None:
    """Search for a network and write the recipe that `cellstream train --recipe` takes.

    Each trial trains a network for each fold and is judged by what they say of the sequences that they did not learn:
    the log loss over all timesteps. What `cellstream train` holds out with the same `--seed`, `--hold-out` and
    `--split` is not looked at. The best recipe so far is written after every trial, and Ctrl-C ends with it. The
    space: docs/training.md.

    Example: `cellstream tune basic-motions --trials 30 --out recipe.toml`
    """
    try:
        import optuna
    except ImportError as missing:
        raise UsageError(
            f"the search is Optuna's, which cannot be imported ({missing}): pip install 'cellstream[tuning]'"
        ) from missing
    from training.datasets import join, split
    from training.networks import PRESETS
    from training.progress import epoch_bar
    from training.recipe_file import write_recipe

    if split_by not in ("chance", "time"):
        raise UsageError(f"--split {split_by}: expected chance or time")
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no directory {out.absolute().parent}")
    begin = PRESETS[preset] if epochs is None else dataclasses.replace(PRESETS[preset], epochs=epochs)
    sequences = options.TableOptions(stream_id, label, features, order, sequence, label_per, table).read(data)
    parts = split(sequences, seed, hold_out, by_time=split_by == "time")
    pool = join(parts.train, parts.validation)
    console = Console(stderr=True, highlight=False)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner(n_startup_trials=4)
    )
    study.enqueue_trial(as_parameters(vars(begin)))

    def objective(trial: Any) -> float:
        recipe = dataclasses.replace(begin, **drawn(trial))
        score = np.inf
        with epoch_bar(console, folds * recipe.epochs, f"trial {trial.number + 1} of {trials}, ") as on_epoch:
            losses = apart(out_of_fold_losses, pool, recipe, seed, folds, on_epoch=on_epoch)
            with closing(losses):
                for number, score in enumerate(losses):
                    trial.report(score, number)
                    if number + 1 < folds and trial.should_prune():
                        raise optuna.TrialPruned
        return float(score)

    def after(study: Any, trial: Any) -> None:
        told = "given up" if trial.state.name == "PRUNED" else f"log loss {trial.value:.4f}"
        console.print(f"trial {trial.number + 1} of {trials}: {told}, best {study.best_value:.4f}", markup=False)
        if study.best_trial.number == trial.number:
            chosen = {**network_of(trial.params), **({} if epochs is None else {"epochs": epochs})}
            words = (
                f"cellstream tune: log loss {trial.value:.4f} out of fold on {len(pool)} sequences of {pool.name}, "
                f"trial {trial.number + 1}, seed {seed}"
            )
            write_recipe(out, preset, chosen, {"folds": folds}, words)

    try:
        study.optimize(objective, n_trials=trials, callbacks=[after])
    except KeyboardInterrupt:
        if not any(trial.state.name == "COMPLETE" for trial in study.trials):
            raise
        console.print("stopped: the best recipe so far is kept")
    _tell(study, data, out, as_json=as_json)


def _tell(study: Any, data: str, out: Path, *, as_json: bool) -> None:
    """What was tried, or what came of it."""
    if as_json:
        ended = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
        tried = [{"loss": trial.value, **network_of(trial.params)} for trial in ended]
        print(json.dumps({"recipe": str(out), "best": study.best_value, "trials": tried}))
    else:
        print(f"best log loss {study.best_value:.4f}: {out}, for cellstream train {data} --recipe {out}")


def out_of_fold_losses(pool: Any, recipe: Any, seed: int, folds: int, on_epoch: Any = None) -> Any:
    """After each fold, the log loss over all timesteps of the folds so far; see the module."""
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow(gpu=True)
    from training.datasets import labels_along
    from training.folds import fit_members
    from training.networks import Scaling

    padded = bool((pool.lengths != pool.lengths[0]).any())
    labels = labels_along(pool)
    losses: list[NDArray[np.float64]] = []
    members = fit_members(pool, folds, Scaling.of(pool.inputs), recipe, seed, padded=padded, on_epoch=on_epoch)
    for fold, _, said in members:
        losses += [log_losses(answers, labels[i]) for i, answers in zip(fold, said, strict=True)]
        yield float(np.concatenate(losses).mean())


def log_losses(answers: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each timestep, `(timesteps,)`, by answers `(timesteps, outputs)` and labels `(timesteps,)`."""
    wide = np.hstack([1 - answers, answers]) if answers.shape[1] == 1 else answers
    losses: NDArray[np.float64] = -np.log(np.clip(wide[np.arange(len(labels)), labels], 1e-7, 1.0))
    return losses
