"""docs/experiments.md and its pictures, from a full run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.experiments.pictures import png
from training.experiments.running import Run

HEAD = """# Experiments

The systems that cellstream grew from, each the simplest readable form of itself in `training/experiments/`. This page
is written by `make experiments`, in one run; numbers move a little from machine to machine, claims should not.

```sh
cellstream experiments list
cellstream experiments run 1a 3b --quick
```

The quick form shrinks sizes and epochs where the claim allows it. The tests run all quick forms; a section below says
where its numbers are those of one. "limit" is what the expected value was in this run, where it is measured too and not
a number that was chosen before. Rows without an expected value tell what was seen, and claim nothing.
"""


def write_page(runs: Sequence[Run], directory: Path) -> Path:
    """Write `experiments.md`, and its pictures as `experiments-NAME-PICTURE.png`, into a directory.

    Returns:
        The page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for one in runs:
        for name, drawing in one.findings.pictures.items():
            (directory / _file(one, name)).write_bytes(png(drawing))
    page = directory / "experiments.md"
    page.write_text("\n".join([HEAD, _overview(runs), *map(_section, runs)]))
    return page


def _overview(runs: Sequence[Run]) -> str:
    """One row for each experiment."""
    rows = []
    for one in runs:
        claims = [row.holds for row in one.findings.rows if row.expected]
        held = f"{len(claims)} hold" if all(claims) else f"**{claims.count(False)} of {len(claims)} do not hold**"
        link = f"[{one.experiment.name}](#{_anchor(one)})"
        rows.append(f"| {link} | {one.experiment.title} | {held} | {one.seconds:.0f} s |")
    return "\n".join(["| | | claims | CPU |", "|---|---|---|---|", *rows, ""])


def _section(one: Run) -> str:
    """Of one experiment: its seed and time, a row for each claim, and its pictures."""
    rows = [(row.claim, row.expected, row.measured, _verdict(row.expected, row.holds)) for row in one.findings.rows]
    facts = f"Seed {one.seed}, {one.seconds:.0f} s of CPU{', quick form' if one.quick else ''}."
    table = ["| claim | expected | measured | |", "|---|---|---|---|"]
    table += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    pictures = [f"\n![{one.experiment.title}: {name}]({_file(one, name)})" for name in one.findings.pictures]
    return "\n".join([f"## {_heading(one)}\n", f"{facts}\n", *table, *pictures, ""])


def _heading(one: Run) -> str:
    return f"{one.experiment.name} {one.experiment.title}"


def _anchor(one: Run) -> str:
    """What Markdown's readers make of a heading: letters, digits and hyphens."""
    kept = "".join(sign for sign in _heading(one).lower() if sign.isalnum() or sign in " -")
    return kept.replace(" ", "-")


def _file(one: Run, picture: str) -> str:
    return f"experiments-{one.experiment.name}-{picture}.png"


def _verdict(expected: str, holds: bool) -> str:
    if not expected:
        return ""
    return "holds" if holds else "**does not hold**"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
