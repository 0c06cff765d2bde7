"""Hours at a steady load: does anything grow, does anything get slower, is anything lost or doubled?

    python -m tests.bench.endurance [--minutes 120] [--load 0.5] [--streams 10000] [--json FILE] [--write]

The worker's greatest rate is measured first; then streams come, end and fall silent (see `visitors`) at a share of it.
Memory, file descriptors, processor time, lag and live streams are what the worker's own metrics say at the end of each
window. Latency runs from the moment a sample was meant to be sent until its committed event is read; the reader takes
one partition of four, and holds every stream in it to its timesteps: each once, in order.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.endurance.page import write
from tests.bench.endurance.run import endure
from tests.brokers.choice import choose, real_broker
from tests.brokers.ports import free_ports
from worker.bench.stage import Scale, open_stage
from worker.commands.bench import telling
from worker.settings.sources import load_settings


def main(argv: Sequence[str] | None = None) -> int:
    """1 where there is no broker to be had, or where a sample was not answered exactly once."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.endurance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=120.0, help="how long [120]")
    parser.add_argument("--load", type=float, default=0.5, help="share of the greatest rate [0.5]")
    parser.add_argument("--streams", type=int, default=10_000, help="that are there at any time [10000]")
    parser.add_argument(
        "--records", type=int, default=3_000_000, help="by which the greatest rate is measured [3000000]"
    )
    parser.add_argument("--windows", type=int, default=120, help="stretches that are looked at one by one [120]")
    parser.add_argument("--quick", action="store_true", help="do not wait until nothing is compiled any more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--write", action="store_true", help="write docs/reliability.md and its picture")
    given = parser.parse_args(argv)
    print(f"broker: {choose().words}", file=sys.stderr)
    if choose().kind == "none":
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the processes and the broker
    scale = Scale(streams=given.streams, records=given.records, rest=not given.quick)
    with (
        tempfile.TemporaryDirectory(prefix="cellstream-endurance-") as directory,
        real_broker(Path(directory)) as servers,
        telling() as say,
        open_stage(load_settings({"bootstrap_servers": servers}, os.environ, None), scale, say) as stage,
    ):
        endured = endure(stage, given.minutes, given.load, given.windows, *free_ports(1))
    if given.json:
        given.json.write_text(json.dumps(asdict(endured)))
    if given.write:
        write(asdict(endured))
    print(
        f"{endured.sent:,} samples at {endured.rate:,.0f}/s: {endured.samples:,} answered, {endured.events:,} of "
        f"{endured.expected:,} events read, {endured.wrong:,} out of order"
    )
    return 0 if endured.exact else 1


if __name__ == "__main__":
    sys.exit(main())
