"""Every row of the table of aims on a broker that is found or started as for the tests, and docs/performance.md.

    python -m tests.bench [--row NAME ...] [--quick] [--json FILE] [--write]

All rows at full scale are written into docs/performance.md, between its markers, with its pictures; `--write` does so
with whatever was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench.page import write
from tests.bench.peers.row import missing, peers
from tests.brokers.choice import choose, real_broker
from worker.bench.aims import Measured, table
from worker.bench.rows import ROWS, RowGroup
from worker.bench.stage import QUICK, Scale, open_stage
from worker.commands.bench import telling
from worker.settings.sources import load_settings

ALL = ROWS | {"peers": RowGroup(peers, 400, "over programs in other frameworks; `make peers` builds them first")}


def main(argv: Sequence[str] | None = None) -> int:
    """1 when there is no broker to be had or a row could not be measured; the others are then printed all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=ALL, help="only this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small laps, no repeats: two or three minutes in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md whatever was measured")
    parser.add_argument("--list", action="store_true", help="the rows, and how long each takes, about")
    given = parser.parse_args(argv)
    if given.list:
        for name, group in ALL.items():
            print(f"{name:12} {group.seconds:4} s  {group.words}")
        return 0
    print(f"broker: {choose().words}", file=sys.stderr)
    if choose().kind == "none":
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the processes and the broker
    measured: list[Measured] = []
    failed: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="cellstream-bench-broker-") as directory,
        real_broker(Path(directory)) as servers,
        telling() as say,
        open_stage(
            load_settings({"bootstrap_servers": servers}, os.environ, None), QUICK if given.quick else Scale(), say
        ) as stage,
    ):
        for name in given.row or ALL:
            begun = time.monotonic()
            try:
                measured += ALL[name].measure(stage)
            except Exception:  # noqa: BLE001 - whatever one row met, the others took twenty minutes
                failed.append(name)
                traceback.print_exc()
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
            if name == "peers" and missing():
                print(f"peers {missing()}", file=sys.stderr)
        conditions = stage.conditions()
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table(measured))
    for row in measured:
        if row.beside:
            console.print(f"{row.beside}\n", highlight=False, markup=False)
    if given.json:
        given.json.write_text(json.dumps({"conditions": conditions, "rows": [m.to_json() for m in measured]}, indent=2))
    if measured and (given.write or not (given.row or given.quick)):
        print(f"written: {', '.join(map(str, write(measured, conditions, failed=failed)))}", file=sys.stderr)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
