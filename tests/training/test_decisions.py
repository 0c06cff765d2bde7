"""Laws of rules for decisions: what they promise holds on the trajectories that they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.decisions import careful_rule, early_rule, judge, rate_of, rule_for
from training.trajectories import Trajectories
from worker.decision import DecisionRule
from worker.errors import UsageError


def made(classes: int, sequences: int, longest: int, seed: int) -> Trajectories:
    """Answers that begin undecided and learn their label; some learn another one."""
    rng = np.random.default_rng(seed)
    answers, labels = [], []
    for i in range(sequences):
        length, label = int(rng.integers(1, longest + 1)), i % classes
        told = label if rng.random() < 0.8 else int(rng.integers(classes))
        logits = rng.standard_normal((length, classes)) + np.linspace(0, 4, length)[:, None] * np.eye(classes)[told]
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        answers.append(shares[:, 1:] if classes == 2 else shares)
        labels.append(np.full(length, label))
    names = tuple("abcdef"[:classes])
    return Trajectories(tuple(answers), tuple(labels), names, tuple(map(str, range(sequences))))


trajectories = st.builds(made, st.integers(2, 4), st.integers(8, 40), st.integers(1, 25), st.integers(0, 99))


def decided(rule: DecisionRule, said: Trajectories) -> list[tuple[int, int]]:
    """Class and timesteps seen, for each sequence; the class is -1 where the rule never fires. Read aloud."""
    found = []
    for answers in said.by_class():
        ends = (-1, len(answers))
        for t, answer in enumerate(answers):
            region = sum(t >= begin for begin in rule.from_timesteps) - 1
            if answer.max() >= rule.limits[region][answer.argmax()]:
                ends = (int(answer.argmax()), t + 1)
                break
        found.append(ends)
    return found


@given(trajectories)
@settings(max_examples=25, deadline=None)
def test_an_early_rule_is_as_good_as_it_is_judged_and_no_worse_than_one_limit_for_all(said: Trajectories) -> None:
    rule, classes = early_rule(said), len(said.classes)
    assert rule.problems(said.classes if classes > 2 else said.classes[1:]) == []
    judged = judge(rule, said)
    ends = decided(rule, said)
    last = [int(answers[-1].argmax()) for answers in said.by_class()]
    right = [
        (own if own >= 0 else end) == labels[0] for (own, _), end, labels in zip(ends, last, said.labels, strict=True)
    ]
    assert judged.accuracy == pytest.approx(np.mean(right))
    assert judged.earliness == pytest.approx(
        np.mean([seen / len(labels) for (_, seen), labels in zip(ends, said.labels, strict=True)])
    )
    assert judged.undecided == pytest.approx(np.mean([own < 0 for own, _ in ends]))
    # Answering at once, and only at the end, are limits for all, too; candidates are quantiles, so the end is not one.
    at_once = DecisionRule(said.classes, (0,), ((0.0,) * classes,))
    assert judged.harmonic_mean >= judge(at_once, said).harmonic_mean - 1e-9


@given(trajectories, st.sampled_from([0.01, 0.05, 0.2, 0.5]))
@settings(max_examples=40, deadline=None)
def test_a_careful_rule_keeps_false_alarms_of_every_class_below_its_rate(said: Trajectories, rate: float) -> None:
    ends = decided(careful_rule(said, rate), said)
    for number in range(len(said.classes)):
        others = [own == number for (own, _), labels in zip(ends, said.labels, strict=True) if labels[0] != number]
        assert sum(others) <= rate * len(others)


def test_a_rule_waits_where_the_beginning_says_nothing() -> None:
    rng = np.random.default_rng(2)
    answers, labels = [], []
    for i in range(60):
        label = i % 2
        sure = np.concatenate([rng.uniform(0.05, 0.95, 5), np.full(15, 0.7 if label else 0.3)])
        answers.append(sure[:, None])
        labels.append(np.full(20, label))
    said = Trajectories(tuple(answers), tuple(labels), ("no", "yes"), tuple(map(str, range(60))))
    judged = judge(early_rule(said), said)
    assert judged.accuracy == 1.0
    # One limit for all would let the noise decide, or wait for the end. Noise that is right is welcome.
    assert 5 / 20 < judged.earliness <= 6 / 20


@pytest.mark.parametrize("goal", ["soon", "0", "1", "-0.1", "nan"])
def test_a_goal_that_means_nothing_is_refused(goal: str) -> None:
    with pytest.raises(UsageError, match=r"expected `early`, or a share of false alarms"):
        rate_of(goal)


def test_labels_that_change_within_a_sequence_have_no_decision() -> None:
    said = Trajectories((np.full((3, 1), 0.5),), (np.array([0, 0, 1]),), ("no", "yes"), ("a",))
    with pytest.raises(UsageError, match="no one decision"):
        rule_for(said, "early")
