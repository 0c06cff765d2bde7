"""Schedules by the thousand, and the shortest that still breaks a law.

Shrinking is delta debugging over the steps, then over the settings: steps stand for themselves, so that any of them
can be left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from tests.chaos.mutants import seeded
from tests.simulator.patches import simulated
from tests.simulator.plan import Plan, Step, generate
from tests.simulator.world import Report, World

MOST_RUNS = 2_000


@dataclass
class Tally:
    """What many schedules came to.

    Attributes:
        failed: seeds with their violations.
    """

    schedules: int = 0
    refused: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[int, list[str]] = field(default_factory=dict)

    def add(self, seed: int, report: Report) -> None:
        """Count one."""
        self.schedules += 1
        self.refused += bool(report.refused)
        self.counts += report.counts
        if report.violations:
            self.failed[seed] = report.violations

    def merge(self, other: Tally) -> None:
        """Count another's."""
        self.schedules += other.schedules
        self.refused += other.refused
        self.counts += other.counts
        self.failed |= other.failed


def run(plan: Plan, trace: Callable[[str], None] | None = None) -> Report:
    """Run one schedule; `patches.simulated` must be in place."""
    return World(plan, trace).run()


def search(seeds: Iterable[int]) -> Iterator[tuple[int, Report]]:
    """Run the schedules of some seeds."""
    for seed in seeds:
        yield seed, run(generate(seed))


def tally(seeds: Iterable[int]) -> Tally:
    """Run the schedules of some seeds, in a process of its own if need be."""
    total = Tally()
    with simulated():
        for seed, report in search(seeds):
            total.add(seed, report)
    return total


def first_found(mutant: str, seed: int, most: int) -> tuple[int, str] | None:
    """How many schedules a seeded bug takes to break a law, and which; None when it breaks none."""
    with simulated(), seeded(mutant):
        for number, (_, report) in enumerate(search(range(seed, seed + most)), start=1):
            if report.violations:
                return number, report.violations[0]
    return None


def law_of(report: Report) -> str:
    """Which law broke first, without its coordinates: shrinking keeps to one, and does not slip into another."""
    return (
        " ".join(word for word in report.violations[0].split(" ")[:12] if word.isalpha()) if report.violations else ""
    )


def shrink(plan: Plan) -> Plan:
    """The shortest schedule found that breaks the same law."""
    law, runs = law_of(run(plan)), 0
    assert law, "the schedule breaks no law"

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs < MOST_RUNS and law_of(run(candidate)) == law

    while True:
        former = plan
        plan = _fewer_steps(plan, fails)
        plan = _plainer_settings(plan, fails)
        plan = _smaller_steps(plan, fails)
        if plan == former:
            return plan


def _fewer_steps(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    size = len(plan.steps)
    while size:
        begin = 0
        while begin < len(plan.steps):
            shorter = replace(plan, steps=plan.steps[:begin] + plan.steps[begin + size :])
            if fails(shorter):
                plan = shorter
            else:
                begin += size
        size //= 2
    return plan


def _plainer_settings(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    plainest = Plan(seed=plan.seed)
    for name, value in plainest.__dict__.items():
        if name in ("seed", "steps", "workers", "partitions") or getattr(plan, name) == value:
            continue
        if fails(plainer := replace(plan, **{name: value})):
            plan = plainer
    return plan


def _smaller_steps(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    for place, step in enumerate(plan.steps):
        for smaller in _smaller(step):
            if fails(candidate := replace(plan, steps=(*plan.steps[:place], smaller, *plan.steps[place + 1 :]))):
                plan = candidate
                break
    return plan


def _smaller(step: Step) -> Iterator[Step]:
    for place in range(len(step.values)):
        yield replace(step, values=step.values[:place] + step.values[place + 1 :])
    if step.values and any(value != 30 for value in step.values):
        yield replace(step, values=(30,) * len(step.values))
    if step.what == "turn" and step.number > 1:
        yield replace(step, number=1)
        yield replace(step, number=step.number - 1)
