"""`cellstream plan`: workers, partitions, memory and restores for so many streams, by measured costs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from worker.artifact import read_artifact
from worker.capacity import Costs, Demand, Plan
from worker.capacity import plan as planned
from worker.errors import UsageError
from worker.settings import Settings
from worker.settings.options import with_settings

MIB = 1 << 20


@with_settings("artifact", "checkpoint_interval_s", "checkpoints_kept")
def plan(
    settings: Settings,
    *,
    streams: Annotated[int, typer.Option(min=1, help="Streams that are live at the same time.")],
    samples_per_s: Annotated[float, typer.Option(min=0, help="Of all of them together.")],
    state_size: Annotated[
        int, typer.Option(min=1, help="Numbers of a stream's state, where no artifact says so [an LSTM 32-16-8].")
    ] = 112,
    id_bytes: Annotated[int, typer.Option(min=1, max=256, help="Length of a stream's ID.")] = 13,
    sample_us: Annotated[
        float | None, typer.Option(min=0.01, help="Processor time of a sample, as `cellstream bench` measures it.")
    ] = None,
    memory_mib: Annotated[int, typer.Option(min=1024, help="Memory that a worker may take.")] = 8192,
    busy: Annotated[float, typer.Option(min=0.01, max=1, help="Share of its core that a worker may be busy.")] = 0.6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what so many streams need: workers, partitions, memory, checkpoints, and how long a restore takes.

    The costs of a stream and a sample were measured with an LSTM 32-16-8 and JSON, exactly once (docs/scaling.md). For
    another model give its artifact and, by `--sample-us`, its processor time of a sample: `cellstream bench --artifact
    DIR` measures it. Nothing is asked of a broker.

    Example: `cellstream plan --streams 10000000 --samples-per-s 1000000`
    """
    number_bytes = 4
    if settings.artifact is not None:
        manifest = read_artifact(settings.artifact).manifest
        state_size, number_bytes = manifest.state_size, 4 if manifest.state_dtype == "float32" else 2
    demand = Demand(
        streams,
        samples_per_s,
        state_size,
        number_bytes,
        id_bytes,
        settings.checkpoint_interval_s,
        settings.checkpoints_kept,
        memory_mib * MIB,
        busy,
    )
    costs = Costs()
    if sample_us is not None:
        costs = replace(costs, sample_s=sample_us / 1e6, replay_s=sample_us / 1e6 * costs.replay_s / costs.sample_s)
    if demand.memory_bytes <= costs.process_bytes:
        raise UsageError(f"--memory-mib: a worker takes {costs.process_bytes // MIB} MiB before its first stream")
    found = planned(demand, costs)
    if as_json:
        print(json.dumps({**asdict(demand), **asdict(found)}))
        return
    Console(highlight=False).print(report(found))


def report(found: Plan) -> Table:
    """A plan for people."""
    table = Table(box=box.SIMPLE, show_header=False)
    for what, words in rows(found).items():
        table.add_row(what, words)
    return table


def rows(found: Plan) -> dict[str, str]:
    """What a plan says, by what it is of."""
    each = found.streams_each
    return {
        "workers": f"{found.workers:,}, of which one may be away",
        "partitions": f"{found.partitions:,}",
        "streams of a partition": f"{each:,}; max_streams_per_partition at least {2 * each:,}",
        "memory of a worker": f"{found.worker_bytes / MIB:,.0f} MiB",
        "a worker's core is busy": f"{found.worker_busy:.0%}",
        "checkpoint of a partition": f"{found.checkpoint_bytes / 1e6:,.0f} MB",
        "all checkpoints": f"{found.store_bytes / 1e9:,.1f} GB",
        "written to the store": f"{found.saved_bytes_per_s / 1e6:,.0f} MB/s, "
        f"{found.saved_bytes_per_s / found.workers / 1e6:,.1f} by each worker",
        "restore of a partition": f"{found.load_s:.2f} s to load, {found.replay_s:.2f} s to replay at the most",
        "a worker dies": f"{found.takeover_s:.1f} s until others have its partitions, after the session time-out",
        "a worker starts alone": f"{found.restart_s:.1f} s until all of its partitions are back, after its start",
    }
