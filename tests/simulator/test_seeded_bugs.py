"""Each seeded bug of the checker is found by the simulator too, and its schedule shrinks to a few steps."""

from __future__ import annotations

import pytest

from tests.chaos.mutants import MUTANTS, seeded
from tests.simulator.patches import simulated
from tests.simulator.plan import generate
from tests.simulator.search import first_found, law_of, run, shrink

MOST_SCHEDULES = 500


@pytest.mark.parametrize("name", MUTANTS)
def test_a_seeded_bug_is_found(name: str, record_property: pytest.RecordProperty) -> None:
    found = first_found(name, 0, MOST_SCHEDULES)
    assert found is not None, f"{name} was not found in {MOST_SCHEDULES} schedules"
    record_property("schedules", found[0])
    print(f"{name}: found by schedule {found[0]}: {found[1]}")


def test_a_failing_schedule_shrinks_to_the_steps_that_it_takes() -> None:
    with simulated(), seeded("replay-published"):
        plan = next(plan for plan in map(generate, range(MOST_SCHEDULES)) if run(plan).violations)
        shortest = shrink(plan)
        assert law_of(run(shortest)) == law_of(run(plan))
        assert len(shortest.steps) <= 8, shortest.described()
    with simulated():
        assert not run(shortest).violations
