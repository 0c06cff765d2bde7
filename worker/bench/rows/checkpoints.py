"""Rows about checkpoints of many streams: `worker.bench.checkpoints`, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from worker.bench.aims import Aim, Measured, spread
from worker.bench.checkpoints import LOAD, PAUSE
from worker.bench.stage import Stage
from worker.errors import FatalFault


def checkpoints(stage: Stage) -> list[Measured]:
    """The main loop's pause while a checkpoint is written, and loading it over reading its file. No broker."""
    streams = stage.scale.live
    stage.say(f"checkpoints of {streams:,} streams")
    flags = ["--streams", str(streams), "--repeats", str(stage.scale.repeats), "--json"]
    command = [sys.executable, "-m", "worker.bench.checkpoints", *flags]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise FatalFault(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.decode()[-4_000:]}")
    found = json.loads(done.stdout)
    turns = [spread(found[f"longest turn {which}, ms"], "{:.1f} ms") for which in ("with", "without")]
    return [
        Measured(
            f"longest pause of the main loop while {streams:,} streams checkpoint",
            Aim(10, at_least=False, form="{:.1f} ms"),
            tuple(found[PAUSE]),
            f"turns of at most {turns[0]}, without a checkpoint {turns[1]}",
        ),
        Measured(
            "load of that checkpoint over a plain read of its file",
            Aim(2, at_least=False),
            tuple(found[LOAD]),
            f"{spread(found['load, s'], '{:.2f} s')} by {spread(found['plain read, s'], '{:.2f} s')}",
        ),
    ]
