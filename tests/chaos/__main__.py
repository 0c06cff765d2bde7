"""The chaos suite's command: scenarios by name, and the soak.

python -m tests.chaos list
python -m tests.chaos run zombie --seed 7
python -m tests.chaos soak --kills 1000 --faults 200 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos.play import playing
from tests.chaos.scenarios import SCENARIOS, Skipped


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
    arguments = parser.parse_args()
    if arguments.command == "list":
        return _list(arguments.pattern)
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
    broken = []
    directory = keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    with playing(directory) as play:
        for name in chosen:
            begun = time.monotonic()
            try:
                faults = play(SCENARIOS[name], seed)
            except Skipped as reason:
                print(f"SKIPPED  {name}: {reason}", flush=True)
                continue
            except Exception:  # noqa: BLE001  # the next scenario is played all the same
                traceback.print_exc()
                broken.append(name)
                print(f"BROKEN   {name} seed {seed}; logs and checkpoints in {directory}", flush=True)
                continue
            done = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.items()))
            print(f"exact    {name} seed {seed} ({time.monotonic() - begun:.0f} s: {done})", flush=True)
    return 1 if broken else 0


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


if __name__ == "__main__":
    sys.exit(main())
