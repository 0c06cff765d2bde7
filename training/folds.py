"""An ensemble over folds: each member learns the others' folds and answers for its own; together they are one model.

Every sequence of training and validation is in one fold. The member that did not learn it says its trajectory. What
stands behind the members, smoothing and temperatures, is fitted to those trajectories and is a part of the model. A
member stops where its own fold's loss is best, so the trajectories flatter it a little; a test part that no member saw
is what tells the truth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.calibration import calibration_error, fit_temperatures
from training.datasets import Sequences, Split, folds_of, join, labels_along
from training.decisions import judge, require_one_label, rule_for
from training.evaluation import accuracy_by_share, predict
from training.fitting import Fitted, is_padded, outputs_of, versions
from training.history import write_histories
from training.member import NOWHERE, Member, OnEpoch, Places, fit_member
from training.networks import Recipe, Scaling
from training.trajectories import Trajectories
from worker.model.tensorflow_setup import setup_tensorflow

if TYPE_CHECKING:
    from worker.artifact import Artifact
    from worker.decision import DecisionRule

# Seeds of members are apart, so that two ensembles of neighbouring seeds share none.
APART = 1000


@dataclass(frozen=True)
class FittedEnsemble(Fitted):
    """An ensemble as one model.

    Attributes:
        rule: when its answers are sure enough; None for no rule.
        members: its networks, in the order of their folds.
        trajectories: out of fold, as the members said them: neither smoothed nor calibrated.
    """

    rule: DecisionRule | None
    members: tuple[Member, ...]
    trajectories: Trajectories

    def write(self, directory: Path) -> Artifact:
        """Write the artifact, and histories and trajectories beside it; see `Fitted.write`."""
        artifact = self.write_model(directory, self.rule)
        histories = [(member.history, member.best_epoch) for member in self.members]
        write_histories(histories, directory, self.facts["dataset"])
        self.trajectories.write(directory)
        return artifact


def fit_folds(
    parts: Split,
    recipe: Recipe,
    seed: int = 0,
    *,
    folds: int = 4,
    smoothing: float = 0.0,
    decision: str | None = None,
    on_epoch: OnEpoch | None = None,
    places: Places = NOWHERE,
) -> FittedEnsemble:
    """Train a member for each fold of training and validation, and put them into one streamable model.

    Args:
        parts: training and validation are divided anew, into the folds; the held-out part is left alone.
        recipe: of each member.
        seed: of folds and members.
        folds: how many, at least 2.
        smoothing: share of the past in the answers, 0 <= smoothing < 1.
        decision: what a rule for decisions is for, see `training.decisions.rule_for`; None for no rule.
        on_epoch: called after each epoch, with epochs counted on over the members.
        places: what is kept while training goes on.

    Raises:
        UsageError: there are fewer streams than folds, or labels change within sequences and a decision is wanted.
    """
    setup_tensorflow(gpu=True)
    import keras

    started = time.monotonic()
    pool = join(parts.train, parts.validation)
    places.open({"recipe": recipe.facts(), "seed": seed, "folds": folds, **parts.facts()}, pool)
    if decision is not None:
        require_one_label(labels_along(pool))
    # One for all: it says where a feature lies, and nothing of labels. Members that scale alike cost the stream once.
    scaling = Scaling.of(pool.inputs)
    members: list[Member] = []
    said: list[NDArray[Any]] = [np.empty(0)] * len(pool)
    for fold, member, answers_of_fold in fit_members(
        pool, folds, scaling, recipe, seed, padded=is_padded(parts), on_epoch=on_epoch, places=places
    ):
        members.append(member)
        for i, trajectory in zip(fold, answers_of_fold, strict=True):
            said[i] = trajectory
    trajectories = Trajectories(tuple(said), labels_along(pool), pool.classes, pool.stream_ids)
    smooth = trajectories.smoothed(smoothing)
    temperatures = fit_temperatures(smooth)
    with keras.device("cpu:0"):
        model = ensemble(pool.name, [member.model for member in members], smoothing, temperatures)
    answers = predict(model, parts.test.inputs)
    rule = None
    decided: dict[str, Any] = {}
    if decision is not None:
        final = smooth.calibrated(temperatures)
        rule = rule_for(final, decision)
        decided = {"out_of_fold": judge(rule, final).facts()}
        if answers:
            unseen = Trajectories(
                tuple(own.astype(np.float64) for own in answers),
                labels_along(parts.test),
                pool.classes,
                parts.test.stream_ids,
            )
            decided["test"] = judge(rule, unseen).facts()
    facts = {
        "dataset": pool.name,
        **parts.facts(),
        "seed": seed,
        "recipe": recipe.facts(),
        "folds": folds,
        "smoothing": smoothing,
        "best_epochs": [member.best_epoch for member in members],
        "out_of_fold": {
            "accuracy": accuracy_by_share(said, trajectories.labels),
            "calibration_error": {
                "before": calibration_error(smooth),
                "after": calibration_error(smooth.calibrated(temperatures)),
            },
        },
        "accuracy": accuracy_by_share(answers, labels_along(parts.test)),
        **({"decision": decided} if decided else {}),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions("aeon", "keras", "numpy", "tensorflow"),
    }
    return FittedEnsemble(
        model, pool.features, outputs_of(pool.classes), scaling, {}, facts, rule, tuple(members), trajectories
    )


def fit_members(
    pool: Sequences,
    folds: int,
    scaling: Scaling,
    recipe: Recipe,
    seed: int,
    *,
    padded: bool,
    on_epoch: OnEpoch | None = None,
    places: Places = NOWHERE,
) -> Iterator[tuple[NDArray[np.int64], Member, list[NDArray[np.float64]]]]:
    """Train a member for each fold, one after the other.

    Args:
        pool: what is divided into folds.
        folds: how many.
        scaling: what the members' Normalization layers hold.
        recipe: of each member.
        seed: of folds and members.
        padded: whether the sequences that they are made for differ in length.
        on_epoch: called after each epoch, with epochs counted on over the members.
        places: what is kept while training goes on.

    Yields:
        The indices of a fold, the member that learned all others, and what it says of each sequence of the fold,
        `(its timesteps, outputs)`.

    Raises:
        UsageError: there are fewer streams than folds.
    """
    for number, fold in enumerate(folds_of(pool, folds, seed)):
        own = pool.take(fold)
        member = fit_member(
            pool.take(np.setdiff1d(np.arange(len(pool)), fold)),
            own,
            scaling,
            recipe,
            APART * seed + number,
            name=f"member_{number + 1}",
            padded=padded,
            stop=Event(),
            on_epoch=_counted_on(on_epoch, number * recipe.epochs),
            places=places,
        )
        yield fold, member, [answers.astype(np.float64) for answers in predict(member.model, own.inputs)]


def ensemble(name: str, members: Sequence[Any], smoothing: float, temperatures: NDArray[np.float64]) -> Any:
    """One model: the mean of the members' probabilities, smoothed along the past, calibrated.

    Args:
        name: of the model.
        members: networks of one input and output shape, with names of their own.
        smoothing: share of the past; 0 leaves the layer out.
        temperatures: `(timesteps,)`.
    """
    import keras

    from worker.model.layers.answers import Calibration, SmoothingCell

    (width,) = {member.output_shape[-1] for member in members}
    samples = keras.Input((None, members[0].input_shape[-1]), name="samples")
    answers = keras.layers.Average(name="mean")([member(samples) for member in members])
    if smoothing:
        cell = SmoothingCell(width, smoothing, name="smoothing_cell")
        answers = keras.layers.RNN(cell, return_sequences=True, name="smoothing")(answers)
    calibration = Calibration(len(temperatures), name="probabilities")
    model = keras.Model(samples, calibration(answers), name=name.replace("-", "_"))
    calibration.temperatures.assign(temperatures)
    return model


def _counted_on(on_epoch: OnEpoch | None, before: int) -> OnEpoch | None:
    if on_epoch is None:
        return None
    return lambda epoch, loss, val_loss: on_epoch(before + epoch, loss, val_loss)
