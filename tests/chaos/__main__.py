"""The chaos suite's command: scenarios by name, and the soak.

python -m tests.chaos list
python -m tests.chaos run zombie --seed 7
python -m tests.chaos soak --kills 1000 --faults 200 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from tests.chaos.play import playing, soaking
from tests.chaos.scenarios import SCENARIOS, Skipped
from tests.chaos.soak import Goal, Soak, table


def main() -> int:
    """Do what the command line says; 0 when every law held, 1 when one was broken, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the scenarios, with what each does")
    listing.add_argument("pattern", nargs="?", default="", help="only those whose name has this in it")
    run = commands.add_parser("run", help="play scenarios; `make chaos SCENARIO=NAME SEED=N`")
    run.add_argument("names", nargs="+", metavar="SCENARIO", help="a name, or the beginning of several with * behind")
    run.add_argument("--seed", type=int, default=None, help="the same again; drawn and printed by default")
    run.add_argument("--keep", type=Path, default=None, help="directory for logs, checkpoints and brokers' logs")
    soak = commands.add_parser("soak", help="a random mix of all faults; `make soak ARGS='--minutes 10'`")
    soak.add_argument("--minutes", type=float, help="stop after so long")
    soak.add_argument("--kills", type=int, help="stop when so many workers were killed, and")
    soak.add_argument("--faults", type=int, help="so many other faults were done")
    soak.add_argument("--seed", type=int, default=None, help="decides what is left to chance; drawn by default")
    soak.add_argument("--lanes", type=int, default=2, help="deployments side by side [2]")
    soak.add_argument("--cold", action="store_true", help="start workers as they are, not as forks of a warm process")
    soak.add_argument("--keep", type=Path, default=None, help="directory for the evidence of broken laws")
    arguments = parser.parse_args()
    if arguments.command == "list":
        return _list(arguments.pattern)
    if arguments.command == "soak":
        return _soak(arguments)
    return _run(arguments.names, arguments.seed, arguments.keep)


def _list(pattern: str) -> int:
    for name, scenario in SCENARIOS.items():
        if pattern in name:
            words = scenario.words.replace("\n", "\n    ").replace("\n    \n", "\n")
            print(f"{name}{'  (long)' if scenario.long else ''}\n    {words}\n")
    return 0


def _run(patterns: list[str], seed: int | None, keep: Path | None) -> int:
    chosen = [name for pattern in patterns for name in SCENARIOS if _fits(name, pattern)]
    if not chosen:
        print(f"no scenario is called {' or '.join(patterns)}; `python -m tests.chaos list` has the names")
        return 2
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    broken, skipped = [], 0
    directory = keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    with playing(directory) as play:
        for name in chosen:
            begun = time.monotonic()
            try:
                faults = play(SCENARIOS[name], seed)
            except Skipped as reason:
                print(f"SKIPPED  {name}: {reason}", flush=True)
                skipped += 1
                continue
            except Exception:  # noqa: BLE001  # the next scenario is played all the same
                traceback.print_exc()
                broken.append(name)
                print(f"BROKEN   {name} seed {seed}; logs and checkpoints in {directory}", flush=True)
                continue
            done = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
            print(f"exact    {name} seed {seed} ({time.monotonic() - begun:.0f} s: {done})", flush=True)
    return 1 if broken or skipped == len(chosen) else 0  # nothing played proves nothing


def _soak(arguments: argparse.Namespace) -> int:
    goal = Goal(arguments.minutes, arguments.kills, arguments.faults)
    if goal == Goal():
        goal = Goal(minutes=10)
    seed = time.time_ns() % 1_000_000 if arguments.seed is None else arguments.seed
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="soak-"))
    command = " ".join(
        ["python -m tests.chaos", *sys.argv[1:], *([] if arguments.seed is not None else [f"--seed {seed}"])]
    )
    print(f"{command}\nevidence of broken laws: {directory}", flush=True)
    with soaking(directory, seed, goal, cold=arguments.cold) as soak:
        lanes = [threading.Thread(target=soak.lane, args=(number,), daemon=True) for number in range(arguments.lanes)]
        for lane in lanes:
            lane.start()
        try:
            _watch(soak, lanes)
        except KeyboardInterrupt:
            print("\nending: what was begun is still held to the laws; Ctrl-C again ends at once", flush=True)
            soak.stopping.set()
            try:
                _watch(soak, lanes)
            except KeyboardInterrupt:
                print("\nended at once: deployments under way were not checked")
        print("\n" + table(soak.tally, soak.seconds, command), flush=True)
        return 1 if soak.tally.violations else 0


def _watch(soak: Soak, lanes: list[threading.Thread]) -> None:
    """A line of progress while lanes run: rewritten on a terminal, now and then elsewhere."""
    terminal, said = sys.stdout.isatty(), 0.0
    while any(lane.is_alive() for lane in lanes):
        lanes[0].join(0.5)
        time.sleep(0.5)
        if terminal or soak.seconds - said > 30:
            said, tally = soak.seconds, soak.tally
            line = (
                f"{said / 60:5.1f} min  {tally.kills.total()} kills  {tally.faults.total()} other faults  "
                f"{tally.deployments} deployments  {tally.records:,} records  {len(tally.violations)} violations"
            )
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", flush=True)


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


if __name__ == "__main__":
    sys.exit(main())
