"""Schemas that are registered between a record's first reading and its replay change no state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from unittest.mock import patch

import pytest

import worker.registry.known_schemas
from tests.simulator.patches import simulated
from tests.simulator.plan import Plan, generate
from tests.simulator.search import run
from worker.registry.known_schemas import KnownSchemas

HARM_TO_CHECKPOINTS = ("damage", "store_away", "trim")


def with_schemas(first: int) -> Iterator[Plan]:
    """The schedules from a seed on that have schemas."""
    return (plan for plan in map(generate, count(first)) if plan.schemas)


def test_a_replay_that_asks_the_registry_anew_is_found() -> None:
    with simulated(), patch.object(KnownSchemas, "note", lambda self, next_offset: None):
        reports = (run(plan) for plan in islice(with_schemas(0), 60))
        assert any("outputs of partition" in line for report in reports for line in report.violations)


@pytest.mark.parametrize("most", [1, 3])
def test_where_there_are_too_many_schemas_some_wait_for_a_checkpoint_and_all_laws_hold(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.registry.known_schemas, "MOST", most)
    with simulated():
        for plan in islice(with_schemas(1_000), 40):
            sound = [step for step in plan.steps if step.what not in HARM_TO_CHECKPOINTS]
            report = run(replace(plan, steps=tuple(sound)))
            assert not report.violations, f"seed {plan.seed}, MOST = {most}: {report.violations}"
