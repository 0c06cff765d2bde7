"""Laws of the table of aims: what is trained on is what the archive has, and what is missed is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aeon.datasets
import numpy as np
import pytest

from training.aims import RECIPE, write_table
from training.aims_page import AIMS, MEASURES, page
from training.tables.options import TableOptions


@pytest.mark.parametrize("aim", [AIMS[0], AIMS[3]], ids=lambda aim: aim.name)
def test_a_table_is_the_archives_part_again(aim: Any, tmp_path: Path) -> None:
    features = write_table(aim, "train", tmp_path / "train.npz")
    read = TableOptions("recording", "label", ",".join(features), "timestep").read(str(tmp_path / "train.npz"))
    inputs, labels = getattr(aeon.datasets, f"load_{aim.loader}")(split="train")
    assert [f"class_{label}" for label in labels] == [read.classes[label] for label in read.labels]
    for one, other in zip(read.inputs, inputs, strict=True):
        np.testing.assert_array_equal(one, other.T.astype(np.float32))


def run(aim: Any, seed: int, change: float) -> dict[str, Any]:
    """A run that is better than every aim by `change`."""
    test = {name: aim.limit(name) + (change if aim.upwards(name) else -change) for name in MEASURES}
    return {"set": aim.name, "seed": seed, "seconds": 7, "test": test}


def test_the_page_says_of_each_measure_whether_its_mean_is_reached() -> None:
    gun, vowels = AIMS[1], AIMS[3]
    runs = [run(gun, 1, 0.002), run(gun, 0, 0.0), run(vowels, 0, -0.01)]
    told = page(runs, "--columns", "as they are")
    reached, missed = told.partition("## JapaneseVowels")[::2]
    assert reached.count("| reached |") == len(MEASURES)
    assert "300 epochs, seeds 0, 1;" in reached
    assert "| HM | >= 0.85 | 0.851 | 0.850, 0.852 | reached |" in reached
    assert missed.count("| **missed** |") == len(MEASURES)
    assert "| ECE | <= 0.02 | 0.030 | 0.030 | **missed** |" in missed
    assert told.count("Not measured in this version.") == 2


def test_the_committed_page_is_of_the_options_that_are_used() -> None:
    committed = (Path(__file__).parents[2] / "docs/aims.md").read_text(encoding="utf-8")
    assert " ".join(RECIPE) in committed
