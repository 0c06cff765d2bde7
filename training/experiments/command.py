"""`cellstream experiments`: list them, run them, write their page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from training.experiments.catalog import CATALOG, choose
from training.experiments.running import Run, run
from worker.errors import CellstreamError, UsageError

experiments = typer.Typer(
    help="The systems that cellstream grew from: partial sequences, streaming, echo, intervals, lengths.\n\n"
    "Example: `cellstream experiments run 3b --quick`",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@experiments.command("list")
def list_experiments(*, as_json: AsJson = False) -> None:
    """List the experiments by number.

    Example: `cellstream experiments list`
    """
    if as_json:
        print(json.dumps({name: experiment.title for name, experiment in CATALOG.items()}))
        return
    for name, experiment in CATALOG.items():
        print(f"{name:<4}{experiment.title}")


@experiments.command("run")
def run_experiments(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Numbers, such as 1a.", show_default=False)
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, some seconds each; the claims stay.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of data, weights and shuffling.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory for experiments.md and its pictures.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run experiments and show what each claims, what was expected and what was measured.

    Exit code 1 when a claim does not hold. All of them take some twelve minutes; quick, two or three.

    Example: `cellstream experiments run 1c 2d --quick`
    """
    if bool(names) == everything:
        raise UsageError("name experiments, or --all of them: `cellstream experiments list` says which there are")
    chosen = choose(names or list(CATALOG))
    console = Console(highlight=False, markup=False)
    meanwhile = Console(stderr=True, highlight=False, markup=False)
    runs = []
    for number, experiment in enumerate(chosen, 1):
        meanwhile.print(f"{number} of {len(chosen)}: {experiment.name} {experiment.title} ...")
        runs.append(run(experiment, seed, quick=quick))
        if not as_json:
            _show(runs[-1], console)
    if out is not None:
        from training.experiments.page import write_page

        page = write_page(runs, out)
        if not as_json:
            print(f"written: {page}")
    if as_json:
        print(json.dumps([_facts(one) for one in runs]))
    failed = [one.experiment.name for one in runs if not one.holds]
    if failed:
        raise CellstreamError(f"claims of {', '.join(failed)} do not hold, with seed {seed}")


def _facts(one: Run) -> dict[str, object]:
    rows = [asdict(row) for row in one.findings.rows]
    return {"name": one.experiment.name, "seed": one.seed, "seconds": round(one.seconds, 1), "claims": rows}


def _show(one: Run, console: Console) -> None:
    console.print(f"\n{one.experiment.name}  {one.experiment.title}   (seed {one.seed}, {one.seconds:.0f} s of CPU)")
    table = Table(box=None, pad_edge=False)
    for column in ("claim", "expected", "measured", ""):
        table.add_column(column, overflow="fold")
    for row in one.findings.rows:
        verdict = "" if not row.expected else "holds" if row.holds else "DOES NOT HOLD"
        table.add_row(row.claim, row.expected, row.measured, verdict)
    console.print(table)
