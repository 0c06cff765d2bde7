"""Laws of the demo's books: nothing missing, doubled, foreign or different goes unnoticed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from training.demo_ledger import Ledger
from training.demo_view import ASCII_BLOCKS, BLOCKS, sparkline, table

CLASSES = ("low", "high")
LIMIT = 1.5e-6  # what an artifact's certificate might say
ANSWERS = [np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], np.float32), np.array([[0.7, 0.3], [0.25, 0.75]], np.float32)]


def event(stream_id: str, timestep: int, answer: Any, **others: Any) -> bytes:
    probabilities = dict(zip(CLASSES, map(float, answer), strict=True))
    return json.dumps(
        {"stream_id": stream_id, "sequence": "0-1", "timestep": timestep, "probabilities": probabilities, **others}
    ).encode()


@pytest.fixture
def ledger() -> Ledger:
    """Two streams, all samples sent at second 1."""
    books = Ledger(("a", "b"), ANSWERS, np.array([1, 0]), CLASSES, LIMIT)
    for stream_id, answers in zip("ab", ANSWERS, strict=True):
        for _ in answers:
            books.sent(stream_id, 1.0)
    return books


def replay(ledger: Ledger, leave_out: tuple[str, int] | None = None) -> None:
    for stream_id, answers in zip("ab", ANSWERS, strict=True):
        for timestep, answer in enumerate(answers):
            if (stream_id, timestep) != leave_out:
                ledger.receive(event(stream_id, timestep, answer), 1.25)


def test_one_right_probability_for_each_sample_has_no_problems(ledger: Ledger) -> None:
    replay(ledger)
    report = ledger.report()
    assert ledger.complete
    assert report.problems == []
    assert (report.samples, report.probabilities, report.missing, report.doubled, report.foreign) == (5, 5, 0, 0, 0)
    assert (report.latency_p50_ms, report.latency_p99_ms) == (250.0, 250.0)
    assert report.accuracy == {"25%": 0.5, "50%": 1.0, "75%": 0.5, "100%": 0.5}
    assert json.loads(json.dumps(report.to_json()))["limit"] == LIMIT


def test_a_missing_probability_is_found(ledger: Ledger) -> None:
    replay(ledger, leave_out=("b", 1))
    assert not ledger.complete
    assert ledger.report().problems == ["1 samples have no probability"]


def test_a_doubled_probability_is_found_even_if_it_is_equal(ledger: Ledger) -> None:
    replay(ledger)
    ledger.receive(event("a", 2, ANSWERS[0][2]), 1.5)
    assert ledger.report().problems == ["1 probabilities came twice"]


def test_a_probability_within_the_limit_is_no_problem(ledger: Ledger) -> None:
    replay(ledger, leave_out=("a", 1))
    ledger.receive(event("a", 1, ANSWERS[0][1] + np.array([0, 1.2e-6])), 1.5)
    assert ledger.report().problems == []


@pytest.mark.parametrize("difference", [2e-6, -2e-6])
def test_a_probability_beyond_the_limit_is_found(ledger: Ledger, difference: float) -> None:
    replay(ledger, leave_out=("a", 1))
    ledger.receive(event("a", 1, ANSWERS[0][1] + np.array([0, difference])), 1.5)
    report = ledger.report()
    assert report.largest_difference == pytest.approx(2e-6, rel=0.1)
    assert len(report.problems) == 1


def test_swapped_classes_are_found(ledger: Ledger) -> None:
    replay(ledger, leave_out=("a", 0))
    ledger.receive(event("a", 0, ANSWERS[0][0][::-1]), 1.5)
    assert ledger.report().largest_difference == pytest.approx(0.8)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"not json",
        b"{}",
        event("c", 0, (0.5, 0.5)),
        event("a", 3, (0.5, 0.5)),
        event("a", -1, (0.5, 0.5)),
        json.dumps({"stream_id": "a", "timestep": 0, "probabilities": {"low": 1.0}}).encode(),
        json.dumps({"stream_id": "a", "timestep": 0, "probabilities": {"low": 0.9, "high": 0.1, "x": 0.0}}).encode(),
    ],
)
def test_what_belongs_to_no_sample_is_counted_and_changes_nothing(ledger: Ledger, value: bytes | None) -> None:
    replay(ledger)
    ledger.receive(value, 1.5)
    report = ledger.report()
    assert report.problems == ["1 records belong to no sample"]
    assert report.probabilities == 5


def test_a_probability_before_its_sample_is_foreign() -> None:
    ledger = Ledger(("a",), ANSWERS[:1], np.array([1]), CLASSES, LIMIT)
    ledger.sent("a", 1.0)
    ledger.receive(event("a", 1, ANSWERS[0][1]), 1.1)
    assert ledger.report().foreign == 1


def test_nothing_at_all_is_no_success(ledger: Ledger) -> None:
    assert len(ledger.report().problems) == 2


def test_a_sparkline_has_its_width_and_blanks_what_has_not_come() -> None:
    assert sparkline(np.array([0.0, 0.5, 1.0, np.nan]), 4, BLOCKS) == "▁▅█ "
    assert sparkline(np.array([0.0, 1.0]), 4, ASCII_BLOCKS) == "_#  "
    assert sparkline(np.array([0.0, 0.0, 1.0, 1.0]), 2, BLOCKS) == "▁█"


def test_the_table_says_what_it_cannot_show(ledger: Ledger) -> None:
    replay(ledger)
    assert len(table(ledger, BLOCKS, 2).renderables) == 2
    assert "1 more streams" in str(table(ledger, BLOCKS, 1).renderables[-1])
