"""Scores of answers: values known by hand, and what must not change them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluate.answers import Answers, Moment, answers_of
from training.evaluate.measures import (
    NAMES,
    by_class,
    evaluate_answers,
    first_crossing,
    own_rule,
    reliability,
    scores,
    steadiness,
)
from worker.errors import UsageError
from worker.streaming import Decision


def moment(probabilities: Any, labels: list[int]) -> Moment:
    wide = np.array(probabilities, np.float64)
    return Moment(wide, wide.argmax(axis=1), np.array(labels))


def binary(paths: list[list[float]], labels: list[list[int]]) -> Answers:
    """Sequences that are answered with one probability."""
    told = [np.array(path, np.float32)[:, None] for path in paths]
    own = tuple(np.array(one) for one in labels)
    return answers_of(told, own, ("ok", "worn"), tuple(f"s{k}" for k in range(len(told))))


def test_scores_of_two_classes_are_those_by_hand() -> None:
    told = scores(moment([[0.15, 0.85], [0.75, 0.25], [0.65, 0.35], [0.35, 0.65]], [1, 0, 1, 0]))
    assert told == pytest.approx(
        {
            "accuracy": 0.5,
            "roc_auc": 0.75,  # of the four pairs, 0.35 is below 0.65
            "f1": 0.5,  # one hit, one false alarm, one miss
            "log_loss": -(math.log(0.85) + math.log(0.75) + 2 * math.log(0.35)) / 4,
            "brier": (0.15**2 + 0.25**2 + 2 * 0.65**2) / 4,
            "ece": (0.15 + 0.25 + 2 * 0.65) / 4,  # 0.85 and 0.75 are right, both of 0.65 are wrong
        }
    )


def test_scores_of_three_classes_are_those_by_hand() -> None:
    told = scores(moment([[0.75, 0.15, 0.1], [0.1, 0.65, 0.25], [0.15, 0.55, 0.3]], [0, 1, 2]))
    assert told == pytest.approx(
        {
            "accuracy": 2 / 3,
            "roc_auc": (1 + 1 + 1) / 3,
            "f1": (1 + 2 / 3 + 0) / 3,
            "log_loss": -(math.log(0.75) + math.log(0.65) + math.log(0.3)) / 3,
            "brier": (0.25**2 + 0.15**2 + 0.1**2 + 0.1**2 + 0.35**2 + 0.25**2 + 0.15**2 + 0.55**2 + 0.7**2) / 3,
            "ece": (0.25 + 0.35 + 0.55) / 3,
        }
    )


def test_right_and_sure_answers_have_the_best_scores() -> None:
    told = scores(moment(np.eye(3), [0, 1, 2]))
    assert told == pytest.approx({"accuracy": 1, "roc_auc": 1, "f1": 1, "log_loss": 0, "brier": 0, "ece": 0}, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_where_only_one_class_occurs_there_is_no_auc_and_all_else_is_there(classes: int) -> None:
    told = scores(moment(np.full((4, classes), 1 / classes), [1] * 4))
    assert told.pop("roc_auc") is None
    assert told["log_loss"] == pytest.approx(math.log(classes))
    assert all(isinstance(value, float) for value in told.values())


@given(st.integers(0, 10_000), st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_the_order_of_classes_and_of_sequences_changes_no_score(seed: int, order: list[int]) -> None:
    chance = np.random.default_rng(seed)
    probabilities, labels = chance.dirichlet(np.ones(4), 30), chance.integers(0, 4, 30)
    rows = chance.permutation(30)
    same = scores(moment(probabilities, labels.tolist()))
    other = scores(moment(probabilities[rows][:, order], np.argsort(order)[labels][rows].tolist()))
    assert other == pytest.approx(same)
    assert list(same) == list(NAMES)


def test_every_answer_is_in_one_bin_of_certainty() -> None:
    edges = np.linspace(0.0, 1.0, 11)
    told = reliability(moment(np.stack([edges, 1 - edges], axis=1), [0] * 11))
    assert sum(told["answers"]) == 11
    assert len(told["answers"]) == len(told["certainty"]) == len(told["right"])


def test_answers_as_often_right_as_they_are_sure_have_no_calibration_error() -> None:
    told = reliability(moment([[0.75, 0.25]] * 4, [0, 0, 0, 1]))
    assert told == {"ece": pytest.approx(0), "certainty": [0.75], "right": [0.75], "answers": [4]}


def test_a_share_is_judged_at_its_own_length() -> None:
    answers = binary([[0.2, 0.3, 0.7, 0.9], [0.8]], [[1] * 4, [0]])
    assert answers.at(0.5).probabilities[:, 1].tolist() == pytest.approx([0.3, 0.8])
    assert answers.at(1.0).decided.tolist() == [1, 1]
    told = evaluate_answers(answers)
    assert [row["accuracy"] for row in told["by_elapsed_time"]] == [0.0] * 5 + [0.5] * 5
    assert told["mean_accuracy"] == 0.25
    assert told["all_timesteps"]["accuracy"] == pytest.approx(2 / 5)
    assert told["confusion"] == [[0, 1], [0, 1]]
    assert told["by_class"]["worn"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "answers": 1.0}


def test_labels_of_timesteps_are_judged_where_they_stand() -> None:
    told = [np.array([[0.9], [0.2]], np.float32)]
    answers = answers_of(told, (np.array([1, 0]),), ("ok", "worn"), ("s",), per_timestep=True)
    facts = evaluate_answers(answers)
    assert facts["all_timesteps"]["accuracy"] == 1.0
    assert facts["confusion"] == [[1, 0], [0, 1]]


def test_steadiness_is_that_of_the_class_that_wins() -> None:
    # The first ends as 0 (probabilities 0.5, 0.9, 0.6, 0.8), the second as 1 (0.6, 0.7).
    told = steadiness(binary([[0.5, 0.1, 0.4, 0.2], [0.6, 0.7]], [[0] * 4, [1] * 2]))
    assert told == pytest.approx(
        {
            "total_variation": (0.9 + 0.1) / 2,
            "excess_variation": (0.6 + 0.0) / 2,
            "worst_jump": (0.4 + 0.1) / 2,
            "largest_jump": 0.4,
        },
        abs=1e-6,
    )


def test_one_sample_is_as_steady_as_can_be() -> None:
    assert set(steadiness(binary([[0.4]], [[0]])).values()) == {0.0}


def test_the_first_crossing_decides_and_the_end_where_there_is_none() -> None:
    answers = binary([[0.6, 0.1, 0.9, 0.9], [0.5, 0.6, 0.6, 0.6]], [[1] * 4, [1] * 4])
    early = first_crossing(answers, 0.55)
    assert early == pytest.approx({"earliness": 0.375, "accuracy": 1.0, "harmonic_mean": 1.25 / 1.625, "never": 0.0})
    late = first_crossing(answers, 0.85)  # the first is sure of the wrong class after two of four
    assert late == pytest.approx({"earliness": 0.75, "accuracy": 0.5, "harmonic_mean": 0.25 / 0.75, "never": 0.5})


def test_the_own_rule_is_judged_by_what_it_decided_and_when() -> None:
    answers = binary([[0.6, 0.1, 0.9, 0.9], [0.5, 0.6, 0.6, 0.6]], [[1] * 4, [0] * 4])
    assert evaluate_answers(answers)["decision"] is None
    # The first is decided at its second sample, wrongly; the second never, so by its last answer, wrongly too.
    ruled = replace(answers, decisions=(Decision(1, 0), None))
    assert own_rule(ruled) == {"earliness": 0.75, "accuracy": 0.0, "harmonic_mean": 0.0, "never": 0.5}
    ruled = replace(answers, decisions=(Decision(0, 1), Decision(1, 1)))
    assert own_rule(ruled) == pytest.approx(
        {"earliness": 0.375, "accuracy": 0.5, "harmonic_mean": 0.625 / 1.125, "never": 0.0}
    )
    assert evaluate_answers(ruled)["decision"] == own_rule(ruled)


@given(st.lists(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6), min_size=1, max_size=5), st.floats(0.5, 0.99))
def test_a_rule_of_one_limit_is_a_first_crossing(paths: list[list[float]], limit: float) -> None:
    answers = binary(paths, [[1] * len(path) for path in paths])
    crossings = [np.flatnonzero(path.max(axis=1) >= limit) for path in answers.probabilities]
    decisions = tuple(
        Decision(int(crossed[0]), int(own[crossed[0]])) if len(crossed) else None
        for crossed, own in zip(crossings, answers.decided, strict=True)
    )
    assert own_rule(replace(answers, decisions=decisions)) == first_crossing(answers, limit)


def test_nothing_right_and_nothing_early_is_no_division_by_zero() -> None:
    assert first_crossing(binary([[0.6, 0.6]], [[0, 0]]), 0.99)["harmonic_mean"] == 0.0


def test_a_class_that_never_occurs_has_its_row() -> None:
    told = by_class(moment([[0.6, 0.3, 0.1]], [0]), ("a", "b", "c"))
    assert told["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "answers": 0.0}


def test_several_outputs_side_by_side_are_refused() -> None:
    with pytest.raises(UsageError, match="sum to 2, not to 1: it has several outputs"):
        answers_of([np.ones((3, 2), np.float32)], (np.zeros(3, np.int64),), ("a", "b"), ("s",))
