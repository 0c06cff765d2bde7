"""docs/experiments.md and its pictures, from a full run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.experiments.pictures import png
from training.experiments.running import Run

HEAD = """# Experiments

The systems that cellstream grew from, each the simplest readable form of itself in `training/experiments/`. This page
is written by `make experiments`; numbers move a little from machine to machine, claims should not.

```sh
cellstream experiments list
cellstream experiments run 1a 3b --quick
```

The quick form shrinks sizes and epochs where the claim allows it. The tests run all quick forms; a section below says
where its numbers are those of one. "limit" is what the expected value was in this run, where it is measured too and not
a number that was chosen before.
"""


def write_page(runs: Sequence[Run], directory: Path) -> Path:
    """Write `experiments.md`, and its pictures as `experiments-NAME-PICTURE.png`, into a directory.

    Returns:
        The page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pictures = []
    for one in runs:
        for name, drawing in one.findings.pictures.items():
            file = f"experiments-{one.experiment.name}-{name}.png"
            (directory / file).write_bytes(png(drawing))
            pictures.append(f"![{one.experiment.title}: {name}]({file})\n")
    page = directory / "experiments.md"
    page.write_text("\n".join([HEAD, *_tables(runs), *(["## Pictures\n"] if pictures else []), *pictures]))
    return page


def _tables(runs: Sequence[Run]) -> list[str]:
    """One section for each experiment: its seed and time, and a row for each claim."""
    sections = []
    for one in runs:
        cells = [
            (row.claim, row.expected, row.measured, _verdict(row.expected, row.holds)) for row in one.findings.rows
        ]
        rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in cells]
        head = ["| claim | expected | measured | |", "|---|---|---|---|"]
        facts = f"Seed {one.seed}, {one.seconds:.0f} s of CPU{', quick form' if one.quick else ''}."
        sections.append(
            "\n".join([f"## {one.experiment.name} {one.experiment.title}\n", f"{facts}\n", *head, *rows, ""])
        )
    return sections


def _verdict(expected: str, holds: bool) -> str:
    if not expected:
        return ""
    return "holds" if holds else "**does not hold**"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
