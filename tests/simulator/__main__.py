"""Run schedules, replay and shrink one, or see how soon the seeded bugs are found.

python -m tests.simulator run --schedules 100000 --seed 1 --processes 2
python -m tests.simulator replay 1303 [--shrink] [--mutant NAME]
python -m tests.simulator mutants --schedules 2000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context

from tests.chaos.mutants import MUTANTS, seeded
from tests.simulator.patches import simulated
from tests.simulator.plan import generate
from tests.simulator.search import Tally, first_found, run, shrink, tally

PIECE = 100
ENOUGH = 10  # failing schedules, and the search ends
SAID_EVERY_S = 5.0


def main() -> int:
    """Read the command line; 1 when a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator")
    commands = parser.add_subparsers(required=True)
    many = commands.add_parser("run", help="many schedules, and a table of what they came to")
    many.add_argument("--schedules", type=int, default=2_000)
    many.add_argument("--seed", type=int, default=0, help="the first; the others follow it")
    many.add_argument("--processes", type=int, default=1)
    many.set_defaults(command=run_many)
    one = commands.add_parser("replay", help="one schedule, step by step")
    one.add_argument("seed", type=int)
    one.add_argument("--shrink", action="store_true", help="only the steps that it takes")
    one.add_argument("--mutant", choices=MUTANTS, help="with a seeded bug")
    one.set_defaults(command=replay)
    bugs = commands.add_parser("mutants", help="how many schedules each seeded bug takes to be found")
    bugs.add_argument("--schedules", type=int, default=2_000, help="at most")
    bugs.add_argument("--seed", type=int, default=0)
    bugs.set_defaults(command=find_mutants)
    arguments = parser.parse_args()
    return int(arguments.command(arguments))


def run_many(arguments: argparse.Namespace) -> int:
    """Run schedules with a line of progress; ends with a table."""
    first, count = arguments.seed, arguments.schedules
    pieces = [range(begin, min(begin + PIECE, first + count)) for begin in range(first, first + count, PIECE)]
    total, begun, said = Tally(), time.monotonic(), 0.0
    for part in _parts(pieces, arguments.processes):
        total.merge(part)
        for seed, violations in part.failed.items():
            print(f"seed {seed}: {violations[0]}", flush=True)
        if len(total.failed) >= ENOUGH:
            break
        seconds = time.monotonic() - begun
        if seconds - said > SAID_EVERY_S:
            said = seconds
            print(f"{total.schedules:,} of {count:,}, {len(total.failed)} violations, {seconds:.0f} s", flush=True)
    print(f"\n{_table(total)}\n\nseeds {first} to {first + count - 1}, {time.monotonic() - begun:.0f} s")
    for seed in sorted(total.failed):
        print(f"python -m tests.simulator replay {seed} --shrink")
    return int(bool(total.failed))


def replay(arguments: argparse.Namespace) -> int:
    """Print a schedule and everything that happens in it."""
    plan = generate(arguments.seed)
    bug: AbstractContextManager[None] = seeded(arguments.mutant) if arguments.mutant else nullcontext()
    with simulated(), bug:
        if arguments.shrink and run(plan).violations:
            plan = shrink(plan)
        print(plan.described(), end="\n\n")
        report = run(plan, print)
    print("", *report.violations or ["no law was broken"], sep="\n")
    if report.refused:
        print(f"a worker rightly refused to go on: {report.refused}")
    return int(bool(report.violations))


def find_mutants(arguments: argparse.Namespace) -> int:
    """Print a table of the seeded bugs."""
    print("| seeded bug | schedules until found | by |\n|---|---|---|")
    missed = 0
    for name in MUTANTS:
        found = first_found(name, arguments.seed, arguments.schedules)
        missed += found is None
        taken, by = found or (f"not in {arguments.schedules}", "")
        print(f"| {name} | {taken} | {by[:90]} |", flush=True)
    return int(missed > 0)


def _parts(pieces: Iterable[range], processes: int) -> Iterator[Tally]:
    if processes == 1:
        yield from map(tally, pieces)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(tally, pieces)


def _table(total: Tally) -> str:
    rows = {
        "schedules": total.schedules,
        "ended in a rightful refusal": total.refused,
        **dict(sorted(total.counts.items())),
        "violations": len(total.failed),
    }
    return "\n".join(["| what | count |", "|---|---|", *(f"| {what} | {count:,} |" for what, count in rows.items())])


if __name__ == "__main__":
    sys.exit(main())
