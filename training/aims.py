"""What training must reach: four sets of the UCR and UEA archives, as the archive splits them, on their test part.

    python -m training.aims [--set NAME ...] [--seed N ...] [--again] [--write]

Each run is what a user would do: `cellstream train` on a table of the archive's training part, and `cellstream
evaluate` of the artifact on one of its test part, which nothing else reads. What was measured is kept in `.cache/aims`,
so that a second call goes on where the first one ended; `--write` makes docs/aims.md of all that is there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.aims_page import AIMS, Aim, page
from training.networks import PRESETS

KEPT, PAGE = Path(".cache/aims"), Path("docs/aims.md")
CELLSTREAM = (sys.executable, "-c", "from worker.cli import main; main()")
COLUMNS = ("--stream-id", "recording", "--label", "label", "--order", "timestep")
# Chosen on the training parts alone, by what the members say of the sequences that they did not learn; docs/aims.md.
PRESET = "conv-gru"
SEEDS = (0, 1, 2)
RECIPE = ("--preset", PRESET, "--folds", "8", "--smoothing", "0.7", "--decision", "early", "--hold-out", "0")


@dataclass(frozen=True)
class Run:
    """One set, trained and evaluated with one seed.

    Attributes:
        aim: the set, and what it is to reach.
        seed: of folds, weights and shuffling.
    """

    aim: Aim
    seed: int

    @property
    def result(self) -> Path:
        """Where it is kept."""
        return KEPT / f"{self.aim.loader}-{self.seed}.json"

    @property
    def options(self) -> tuple[str, ...]:
        """Of `cellstream train`."""
        return (*RECIPE, "--epochs", str(self.aim.epochs))

    def current(self) -> dict[str, Any] | None:
        """What was kept of it, if that was with the options and the preset as they are now."""
        if not self.result.exists():
            return None
        found: dict[str, Any] = json.loads(self.result.read_text())
        recipe = {**PRESETS[PRESET].facts(), "epochs": self.aim.epochs}
        return found if (found["options"], found["recipe"]) == (shlex.join(self.options), recipe) else None

    def measure(self) -> dict[str, Any]:
        """Train, evaluate, and keep what came out."""
        directory = KEPT / f"{self.aim.loader}-{self.seed}"
        directory.mkdir(parents=True, exist_ok=True)
        features = write_table(self.aim, "train", directory / "train.npz")
        write_table(self.aim, "test", directory / "test.npz")
        artifact = directory / "artifact"
        train = ("train", str(directory / "train.npz"), *COLUMNS, "--features", ",".join(features), *self.options)
        began = time.monotonic()
        trained = _cellstream(*train, "--seed", str(self.seed), "--out", str(artifact), "--json")
        seconds = time.monotonic() - began
        judged = _cellstream("evaluate", str(artifact), str(directory / "test.npz"), *COLUMNS, "--json")
        found = {
            "set": self.aim.name,
            "seed": self.seed,
            "options": shlex.join(self.options),
            "recipe": trained["recipe"],
            "seconds": round(seconds),
            "best_epochs": trained["best_epochs"],
            "out_of_fold": trained["decision"]["out_of_fold"],
            "test": {
                "HM": judged["decision"]["harmonic_mean"],
                "AUC": judged["mean_accuracy"],
                "final accuracy": judged["by_elapsed_time"][-1]["accuracy"],
                "TV": judged["steadiness"]["total_variation"],
                "TVx": judged["steadiness"]["excess_variation"],
                "ECE": judged["all_timesteps"]["ece"],
            },
        }
        self.result.write_text(json.dumps(found, indent=2) + "\n")
        return found


def write_table(aim: Aim, part: str, path: Path) -> list[str]:
    """Write a part of a set as a table with a row for each sample.

    Args:
        aim: the set.
        part: `train` or `test`, as the archive has them.
        path: a `.npz` file.

    Returns:
        The names of the features.
    """
    import aeon.datasets

    inputs, labels = getattr(aeon.datasets, f"load_{aim.loader}")(split=part)  # each (features, timesteps)
    lengths = [recording.shape[1] for recording in inputs]
    names = [f"feature_{number}" for number in range(1, len(inputs[0]) + 1)]
    samples = np.concatenate([recording.T for recording in inputs])  # (all timesteps, features)
    np.savez(
        path,
        recording=np.repeat([f"{part}-{number}" for number in range(len(lengths))], lengths),
        label=np.repeat([f"class_{label}" for label in labels], lengths),
        timestep=np.concatenate([np.arange(length) for length in lengths]),
        **dict(zip(names, samples.T, strict=True)),
    )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """1 when a training or an evaluation failed."""
    parser = argparse.ArgumentParser(
        prog="python -m training.aims", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", choices=[aim.name for aim in AIMS], help="only this; may be repeated")
    parser.add_argument("--seed", action="append", type=int, help="only this; may be repeated; else 0, 1 and 2")
    parser.add_argument("--again", action="store_true", help="measure what is kept, too")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    given = parser.parse_args(argv)
    runs = [Run(aim, seed) for seed in given.seed or SEEDS for aim in AIMS if aim.name in (given.set or aim.name)]
    for run in runs:
        if given.again or run.current() is None:
            found = run.measure()
            print(f"{run.aim.name}, seed {run.seed}, {found['seconds']} s: {_told(found['test'])}", flush=True)
    if given.write:
        kept = [run.current() for aim in AIMS for run in (Run(aim, seed) for seed in SEEDS)]
        PAGE.write_text(page([found for found in kept if found], shlex.join(COLUMNS), shlex.join(RECIPE)))
    return 0


def _told(measured: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in measured.items())


def _cellstream(*arguments: str) -> Any:
    """What a command says as JSON."""
    return json.loads(subprocess.run([*CELLSTREAM, *arguments], check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    sys.exit(main())
