"""The row about starting: a new process and a new group, with one sample waiting."""

from __future__ import annotations

from worker.bench.aims import Aim, Measured
from worker.bench.stage import Stage


def start(stage: Stage) -> list[Measured]:
    """Process start to first committed probability: imports, artifact, compiling, joining the group."""
    seconds = []
    for number in range(stage.scale.repeats):
        stage.say(f"start {number + 1} of {stage.scale.repeats}")
        with stage.contestant("cellstream") as worker:
            seconds.append(worker.first_output(1, 1))
    return [Measured("process start to first probability", Aim(5, at_least=False, form="{:.2f} s"), tuple(seconds))]
