"""Runs experiments one after the other, and keeps what each found with its seed and time."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from training.experiments.experiment import Experiment, Findings, Setup


@dataclass(frozen=True)
class Run:
    """One experiment that was run.

    Attributes:
        experiment: which.
        findings: what it found.
        seed: of its data and weights.
        seconds: of CPU that it took, over all cores; those of the clock say more of what else runs.
        quick: whether it was the quick form.
    """

    experiment: Experiment
    findings: Findings
    seed: int
    seconds: float
    quick: bool

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(row.holds for row in self.findings.rows)


def run(experiment: Experiment, seed: int, *, quick: bool) -> Run:
    """Run one in a directory that is gone afterwards."""
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    # Many small models, each with its own functions: TensorFlow takes that for a mistake and says so.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    started = time.process_time()
    with tempfile.TemporaryDirectory(prefix="cellstream-experiment-") as directory:
        findings = experiment.run(Setup(quick, seed, Path(directory)))
    return Run(experiment, findings, seed, time.process_time() - started, quick)
