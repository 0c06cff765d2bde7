"""`cellstream bench`: the worker beside the plain loop and the loop that people write today."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from worker.errors import UsageError
from worker.options import with_settings
from worker.settings import Settings


@with_settings("bootstrap_servers", "artifact", "commit_interval_ms", "poll_records")
def bench(
    settings: Settings,
    records: Annotated[int, typer.Option(min=10_000, help="Samples in a lap.")] = 1_000_000,
    slow_records: Annotated[int, typer.Option(min=500, help="Samples in a lap of the batch-of-one loop.")] = 3_000,
    streams: Annotated[int, typer.Option(min=1, help="Interleaved streams.")] = 10_000,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; the table shows medians.")] = 3,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 4,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Measure only passthrough, cellstream or batch-of-one; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure samples/s, processor time per sample and memory on a real broker, side by side.

    The passthrough consumes, decodes, encodes and produces without a model; cellstream is `cellstream run`; the
    batch-of-one loop is a stateful Keras model with every stream's state swapped in and out. All of them commit
    outputs and offsets in one transaction every --commit-interval-ms. Without --artifact an LSTM 32-16-8 of 3 features
    is measured. Topics are created for the run and deleted. How to read the table: docs/performance.md.

    Example: cellstream bench --bootstrap-servers localhost:9092
    """
    try:
        from worker.bench import race
    except ModuleNotFoundError as missing:
        raise UsageError(f"the bench needs {missing.name}: pip install {missing.name}") from None
    unknown = sorted(set(only or ()) - set(race.CONTESTANTS))
    if unknown:
        raise UsageError(f"--only {unknown[0]}: expected one of {', '.join(race.CONTESTANTS)}")
    chosen = tuple(name for name in race.CONTESTANTS if not only or name in only)
    plan = race.Plan(chosen, streams, records, slow_records, repeats, partitions)
    stderr = Console(stderr=True)
    if stderr.is_terminal:
        with stderr.status("bench") as status:
            report = race.run_bench(settings, plan, status.update)
    else:
        report = race.run_bench(settings, plan, lambda words: stderr.print(words, highlight=False))
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    console = Console()
    console.print(report.table())
    for line in report.words():
        console.print(line, highlight=False)
