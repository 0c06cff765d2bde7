"""`cellstream bench`: what is aimed at, measured; or three contestants side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console

from worker.errors import UsageError
from worker.settings import Settings
from worker.settings.options import with_settings

ROW_HELP = (
    "Measure only these rows: json, float32, chunks, hot, live, wide, latency, checkpoints, replay or start; "
    "may be repeated."
)


@with_settings("bootstrap_servers", "artifact", "commit_interval_ms", "poll_records")
def bench(
    settings: Settings,
    row: Annotated[list[str] | None, typer.Option(help=ROW_HELP)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small laps, no repeats: see that it works.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="No rows, but a table of passthrough, cellstream or batch-of-one; may be repeated."),
    ] = None,
    records: Annotated[int | None, typer.Option(min=10_000, help="Samples in a lap.  [1000000]")] = None,
    slow_records: Annotated[int | None, typer.Option(min=500, help="Samples in a lap of batch-of-one.  [3000]")] = None,
    streams: Annotated[int | None, typer.Option(min=1, help="Interleaved streams.  [10000]")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Rounds; the table shows medians.  [5]")] = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="Partitions of each topic.  [4]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Measure on a real broker what this worker is aimed to reach, each row beside what bounds it.

    The passthrough consumes, decodes, encodes and produces without a model; cellstream is `cellstream run`; the
    batch-of-one loop is a stateful Keras model with every stream's state swapped in and out. All rows take some 20
    minutes, with --quick two or three. Without --artifact an LSTM 32-16-8 of 3 features is measured. Topics are created
    for the run and deleted. How to read the table: docs/performance.md.

    Example: cellstream bench --bootstrap-servers localhost:9092 --row json --row latency
    """
    try:
        from worker.bench import aims, race
        from worker.bench.rows import ROWS
        from worker.bench.stage import QUICK, Scale, open_stage
    except ModuleNotFoundError as missing:
        raise UsageError(f"the bench needs {missing.name}: pip install {missing.name}") from None
    _known("--only", only, race.CONTESTANTS)
    _known("--row", row, tuple(ROWS))
    if row and only:
        raise UsageError("--row and --only: give one of them")
    given: dict[str, Any] = {
        "records": records,
        "slow_records": slow_records,
        "streams": streams,
        "repeats": repeats,
        "partitions": partitions,
    }
    scale = replace(QUICK if quick else Scale(), **{k: v for k, v in given.items() if v is not None})
    console = Console()
    with telling() as say, open_stage(settings, scale, say) as stage:
        if only:
            report = race.run_race(stage, [name for name in race.CONTESTANTS if name in only])
            if as_json:
                print(json.dumps(report.to_json(), indent=2))
                return
            console.print(report.table())
            for line in report.words():
                console.print(line, highlight=False)
            return
        measured = [found for name in row or ROWS for found in ROWS[name].measure(stage)]
    if as_json:
        print(json.dumps({"conditions": stage.conditions(), "rows": [m.to_json() for m in measured]}, indent=2))
        return
    console.print(aims.table(measured))
    for found in measured:
        if found.beside:
            console.print(f"{found.beside}\n", highlight=False, markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in stage.conditions().items()), highlight=False)


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """What says to standard error what is going on: in one line on a terminal, else a line each."""
    stderr = Console(stderr=True)
    if stderr.is_terminal:
        with stderr.status("bench") as status:
            yield status.update
    else:
        yield lambda words: stderr.print(words, highlight=False)


def _known(flag: str, given: list[str] | None, names: tuple[str, ...]) -> None:
    unknown = sorted(set(given or ()) - set(names))
    if unknown:
        raise UsageError(f"{flag} {unknown[0]}: expected one of {', '.join(names)}")
