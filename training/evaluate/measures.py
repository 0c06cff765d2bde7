"""Numbers that judge answers: scikit-learn's where it has them, over elapsed time, and of the way itself.

Calibration error is that of Guo et al. (2017): answers in ten bins by the probability of the class that they decide
for; in each bin the share that is right against the mean probability, weighted by how many answers are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.calibration import calibration_curve

from training.evaluate.answers import Answers, Moment
from worker.streaming import Decision

SHARES = tuple(tenth / 10 for tenth in range(1, 11))
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BINS = 10
NAMES = {
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "f1": "F1",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}


def evaluate_answers(answers: Answers) -> dict[str, Any]:
    """Everything there is to say of answers, as JSON; a number that is not defined is None."""
    by_share = [{"share": share, **scores(answers.at(share))} for share in SHARES]
    judged = answers.everywhere if answers.per_timestep else answers.at(1.0)
    return {
        "by_elapsed_time": by_share,
        "all_timesteps": scores(answers.everywhere),
        "mean_accuracy": float(np.mean([row["accuracy"] for row in by_share])),
        "steadiness": steadiness(answers),
        "decision": own_rule(answers),
        "first_crossing": [{"threshold": level, **first_crossing(answers, level)} for level in THRESHOLDS],
        "by_class": by_class(judged, answers.classes),
        "confusion": metrics.confusion_matrix(
            judged.labels, judged.decided, labels=range(len(answers.classes))
        ).tolist(),
    }


def scores(moment: Moment) -> dict[str, float | None]:
    """Six scores of answers that are judged together.

    With two classes, AUC and F1 are those of the second, and Brier is `(p - y)^2`. With more, AUC and F1 are means over
    classes (each against the rest), and Brier is the sum of the squares over classes.
    """
    labels, probabilities = moment.labels, moment.probabilities
    classes = range(probabilities.shape[1])
    average = "binary" if len(classes) == 2 else "macro"
    return {
        "accuracy": float(metrics.accuracy_score(labels, moment.decided)),
        "roc_auc": _roc_auc(labels, probabilities),
        "f1": float(metrics.f1_score(labels, moment.decided, average=average, zero_division=0.0)),
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=classes)),
        "brier": _brier(labels, probabilities),
        "ece": reliability(moment)["ece"],
    }


def reliability(moment: Moment) -> dict[str, Any]:
    """How often answers are right against how sure they are, by tenths of certainty.

    Returns:
        `ece`, and for each bin that has answers `certainty` (their mean), `right` (their share) and `answers`.
    """
    certainty = moment.probabilities[np.arange(len(moment.decided)), moment.decided]
    right = moment.decided == moment.labels
    shares, means = calibration_curve(right, certainty, n_bins=BINS, strategy="uniform")
    # The bins of calibration_curve, which does not tell how many answers are in each.
    inner = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(inner, certainty), minlength=BINS)
    counts = counts[counts > 0]
    return {
        "ece": float((np.abs(shares - means) * counts).sum() / counts.sum()),
        "certainty": means.tolist(),
        "right": shares.tolist(),
        "answers": counts.tolist(),
    }


def steadiness(answers: Answers) -> dict[str, float]:
    """How the probability of the class that wins in the end moves along a sequence.

    Returns:
        `total_variation`: the sum of all its steps up and down, mean over sequences; `excess_variation`: what of it is
        more than the way from the first to the last answer; `worst_jump`: its largest step, mean over sequences;
        `largest_jump`: the largest of all.
    """
    paths = answers.winning
    steps = [np.abs(np.diff(path, prepend=path[:1])) for path in paths]
    variation = np.array([own.sum() for own in steps])
    direct = np.array([abs(path[-1] - path[0]) for path in paths])
    jumps = np.array([own.max() for own in steps])
    return {
        "total_variation": float(variation.mean()),
        "excess_variation": float(np.maximum(variation - direct, 0.0).mean()),
        "worst_jump": float(jumps.mean()),
        "largest_jump": float(jumps.max()),
    }


def first_crossing(answers: Answers, threshold: float) -> dict[str, float]:
    """Deciding as soon as any class has a probability; a sequence that never gets there decides at its end.

    Returns:
        `earliness`: share of the sequence that had to be seen, mean; `accuracy` of what was decided, against the label
        of that timestep; `harmonic_mean` of the accuracy and 1 - earliness; `never`: the share that did not get there.
    """
    decisions: list[Decision | None] = []
    for path, decided in zip(answers.probabilities, answers.decided, strict=True):
        crossed = np.flatnonzero(path.max(axis=1) >= threshold)
        decisions.append(Decision(int(crossed[0]), int(decided[crossed[0]])) if len(crossed) else None)
    return _judged(answers, decisions)


def own_rule(answers: Answers) -> dict[str, float] | None:
    """Deciding by the artifact's rule, as `first_crossing`; None where it has none."""
    return None if answers.decisions is None else _judged(answers, answers.decisions)


def _judged(answers: Answers, decisions: Sequence[Decision | None]) -> dict[str, float]:
    """What decisions come to; a sequence without one is decided by its last answer."""
    seen, right = [], []
    for decided, labels, decision in zip(answers.decided, answers.labels, decisions, strict=True):
        timestep, number = decision or Decision(len(decided) - 1, int(decided[-1]))
        seen.append((timestep + 1) / len(decided))
        right.append(number == labels[timestep])
    earliness, accuracy = float(np.mean(seen)), float(np.mean(right))
    both = accuracy + 1.0 - earliness
    return {
        "earliness": earliness,
        "accuracy": accuracy,
        "harmonic_mean": 2.0 * accuracy * (1.0 - earliness) / both if both else 0.0,
        "never": sum(decision is None for decision in decisions) / len(answers),
    }


def by_class(moment: Moment, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and number of answers of each class, by its name."""
    columns = metrics.precision_recall_fscore_support(
        moment.labels, moment.decided, labels=range(len(classes)), zero_division=0.0
    )
    names = ("precision", "recall", "f1", "answers")
    return {
        own: {name: float(column[number]) for name, column in zip(names, columns, strict=True)}
        for number, own in enumerate(classes)
    }


def _brier(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    if probabilities.shape[1] == 2:
        return float(metrics.brier_score_loss(labels, probabilities[:, 1], pos_label=1))
    classes = range(probabilities.shape[1])
    return float(metrics.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False))


def _roc_auc(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    """Of the second of two classes, or the mean over classes against the rest; None where one side is empty."""
    judged = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    found = [
        metrics.roc_auc_score(labels == number, probabilities[:, number])
        for number in judged
        if 0 < (labels == number).sum() < len(labels)
    ]
    return float(np.mean(found)) if found else None
