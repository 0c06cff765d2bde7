"""Laws of accuracy along the way."""

from __future__ import annotations

import numpy as np

from training.evaluation import accuracy_by_share, decide, timestep_at


def test_a_share_is_complete_at_its_last_timestep() -> None:
    assert [timestep_at(share, 100) for share in (0.25, 0.5, 0.75, 1.0)] == [24, 49, 74, 99]
    assert [timestep_at(share, 10) for share in (0.25, 1.0)] == [2, 9]
    assert [timestep_at(share, 1) for share in (0.25, 1.0)] == [0, 0]


def test_accuracy_follows_each_sequence_at_its_own_length() -> None:
    right_from_half = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.3, 0.7]])
    always_wrong = np.full((7, 2), [0.1, 0.9])
    accuracy = accuracy_by_share([right_from_half, always_wrong], np.array([1, 0]))
    assert accuracy == {"25%": 0.0, "50%": 0.5, "75%": 0.5, "100%": 0.5}


def test_a_single_probability_decides_between_two_classes() -> None:
    assert decide(np.array([[0.49], [0.5], [0.9]])).tolist() == [0, 1, 1]
