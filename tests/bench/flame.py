"""Where a worker's time goes: its stacks, sampled while it answers a backlog, as flame graphs in docs/.

    make flame                                        both pictures; two minutes

The worker runs as in the rows `json` and `hot` of `make bench`. Samples are of the Python threads that run at that
moment; what a frame calls in C (TensorFlow's step, librdkafka's calls, decoding) is the frame's own width. py-spy looks
at the process from outside, which some systems allow to root only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.page import DOCS
from tests.brokers.choice import choose, real_broker
from worker.bench.stage import Scale, Stage, open_stage
from worker.settings.sources import load_settings

STREAMS = {"flame": 10_000, "flame-hot": 1}
RATE = 200  # samples a second


def main() -> int:
    """1 when there is no broker to be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--py-spy", default="py-spy", metavar="FILE", help="the program")
    parser.add_argument("--seconds", type=int, default=10, help="of sampling, for each picture")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR", help="where performance-flame*.svg go")
    given = parser.parse_args()
    print(f"broker: {choose().words}", file=sys.stderr)
    if choose().kind == "none":
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="cellstream-bench-broker-") as directory,
        real_broker(Path(directory)) as servers,
        open_stage(load_settings({"bootstrap_servers": servers}, os.environ, None), Scale(), _tell) as stage,
    ):
        for name, streams in STREAMS.items():
            picture = given.out / f"performance-{name}.svg"
            _record(stage, streams, [given.py_spy, "record", "--rate", str(RATE)], given.seconds, picture)
            _tell(f"written: {picture}")
    return 0


def _record(stage: Stage, streams: int, py_spy: list[str], seconds: int, picture: Path) -> None:
    """Laps of a worker until the recorder has what it wants."""
    with stage.contestant("cellstream") as worker:
        worker.warm_up(stage.scale.records // 10, streams)
        command = [*py_spy, "--duration", str(seconds), "--output", os.path.relpath(picture), "--pid", str(worker.pid)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as recorder:
            while recorder.poll() is None:
                worker.lap(stage.scale.records // 10, streams)
            assert recorder.stderr is not None
            said = recorder.stderr.read()
        if recorder.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {recorder.returncode}:\n{said}")


def _tell(words: str) -> None:
    print(words, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
