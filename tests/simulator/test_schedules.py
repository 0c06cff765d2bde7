"""Thousands of schedules, and none breaks a law. SIMULATOR_SEED sets the first seed, SIMULATOR_SCHEDULES how many."""

from __future__ import annotations

import os
import time

import pytest

from tests.simulator.patches import simulated
from tests.simulator.plan import generate
from tests.simulator.search import run, search, shrink

SCHEDULES = int(os.environ.get("SIMULATOR_SCHEDULES", "2000"))
# Another thousand every day, so that CI does not see the same ones for ever; the first half never changes.
SEED = int(os.environ.get("SIMULATOR_SEED", "0")) or int(time.time()) // 86_400 * 1_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_schedule_breaks_a_law() -> None:
    half = SCHEDULES // 2
    with simulated():
        for seed, report in search([*range(half), *range(SEED, SEED + SCHEDULES - half)]):
            if report.violations:
                lines: list[str] = []
                shortest = shrink(generate(seed))
                run(shortest, lines.append)
                words = [f"seed {seed}", *report.violations, shortest.described(), *lines]
                pytest.fail("\n".join([*words, f"python -m tests.simulator replay {seed} --shrink"]))


def test_a_schedule_is_the_same_each_time_it_is_run() -> None:
    traces: list[list[str]] = [[], []]
    with simulated():
        for trace in traces:
            for seed in range(20, 30):
                run(generate(seed), trace.append)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 1_000
