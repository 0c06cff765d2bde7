"""`cellstream state`: look at, export or reset the checkpointed state of a consumer group."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from worker.checkpoint import CheckpointRef, CheckpointStore
from worker.checkpoint.packing import Packing, keys_of
from worker.commands.state_view import Examined, examine, export_streams, find_stream
from worker.errors import CellstreamError, Refused
from worker.logs import printable
from worker.settings import Settings
from worker.settings.files import masked
from worker.settings.options import with_settings

state = typer.Typer(
    help="Look at, export or reset the checkpointed state of a consumer group.\n\n"
    "Every subcommand reads the checkpoint store only, so a worker may be running meanwhile.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", min=0, help="Only this partition; may be repeated.", show_default=False),
]


@state.command("ls")
@with_settings("checkpoints", "group_id", "input_topic")
def list_checkpoints(settings: Settings, *, partition: Partitions = None, as_json: AsJson = False) -> None:
    """List the checkpoints of each partition, newest first; each is verified and read.

    Example: `cellstream state ls --checkpoints s3://bucket/cellstream --json`
    """
    store = _store(settings)
    examined = [
        examine(store, ref, time.time())
        for number in _partitions(store, settings, partition)
        for ref in store.refs(settings.input_topic, number)
    ]
    if as_json:
        _print_json([entry.as_dict() for entry in examined])
    elif examined:
        _print_table(examined)
    else:
        Console(stderr=True, soft_wrap=True).print(Text(f"no checkpoints of {_place(settings)}"))


@state.command("show")
@with_settings("checkpoints", "group_id", "input_topic")
def show(
    settings: Settings,
    stream_id: Annotated[str, typer.Argument(help="ID of the stream.", show_default=False)],
    *,
    as_json: AsJson = False,
) -> None:
    """Show one stream as the newest valid checkpoint of its partition has it.

    Example: `cellstream state show pump-17`
    """
    store = _store(settings)
    wanted = stream_id.encode("utf-8", "surrogateescape")
    found = [
        row
        for number in _partitions(store, settings, None)
        for row in find_stream(store, settings.input_topic, number, wanted)
    ]
    if not found:
        raise CellstreamError(
            f"no live stream {printable(stream_id)!r} in the newest valid checkpoints of {_place(settings)}; "
            "it may have begun after them, or have ended"
        )
    if as_json:
        _print_json(found)
        return
    for row in found:
        table = Table(box=None, show_header=False)
        for name, value in row.items():
            table.add_row(name.replace("_", " "), Text(_shown(value)))
        Console(soft_wrap=True).print(table)


@state.command("export")
@with_settings("checkpoints", "group_id", "input_topic")
def export(
    settings: Settings,
    *,
    partition: Partitions = None,
    states: Annotated[bool, typer.Option("--states", help="Add the state vectors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="NDJSON, one object per stream, instead of CSV.")] = False,
) -> None:
    """Write every live stream of the newest valid checkpoints to standard output.

    Example: `cellstream state export --partition 0 --json > streams.ndjson`
    """
    store = _store(settings)
    numbers = _partitions(store, settings, partition)
    export_streams(store, settings.input_topic, numbers, sys.stdout, states=states, as_json=as_json)


@state.command("reset")
@with_settings("checkpoints", "group_id", "input_topic")
def reset(
    settings: Settings,
    *,
    partition: Partitions = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else say what would go, and refuse.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the checkpoints of a group: of the partitions named, or of all. Stop its workers first.

    A worker that then finds committed offsets and no checkpoint refuses to start unless on_lost_state says how to go
    on: `rebuild` replays what the input topic still has, `fresh` begins with no state.

    Example: `cellstream state reset --partition 3 --yes`
    """
    store = _store(settings)
    refs = [ref for n in _partitions(store, settings, partition) for ref in store.refs(settings.input_topic, n)]
    if as_json:
        _print_json([_as_dict(ref) | {"removed": yes} for ref in refs])
    if refs and not yes:
        raise Refused(
            f"{_counted(refs)} of {_place(settings)} would be removed for ever. Stop the group's workers, "
            "then repeat with --yes"
        )
    for ref in refs:
        store.remove(ref)
    if not as_json:
        print(f"removed {_counted(refs)} of {printable(_place(settings))}")


def _store(settings: Settings) -> CheckpointStore:
    packing = Packing(keys=keys_of(settings.checkpoint_secret))
    return CheckpointStore(settings.checkpoints, settings.group_id, None, packing=packing)


def _partitions(store: CheckpointStore, settings: Settings, chosen: list[int] | None) -> list[int]:
    there = store.partitions(settings.input_topic)
    return there if chosen is None else [number for number in there if number in chosen]


def _place(settings: Settings) -> str:
    group, topic = printable(settings.group_id), settings.input_topic
    return f"group {group}, topic {topic} in {printable(masked(settings.checkpoints))}"


def _counted(refs: list[CheckpointRef]) -> str:
    partitions = sorted({ref.partition for ref in refs})
    listed = ", ".join(map(str, partitions[:20])) + (", ..." if len(partitions) > 20 else "")
    of = f" ({decimal(sum(ref.size_bytes for ref in refs))}; partitions {listed})" if refs else ""
    return f"{len(refs)} checkpoint{'' if len(refs) == 1 else 's'}{of}"


def _as_dict(ref: CheckpointRef) -> dict[str, Any]:
    return {
        "partition": ref.partition,
        "next_offset": ref.next_offset,
        "size_bytes": ref.size_bytes,
        "path": ref.path,
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # ASCII only, so that no ID does anything to a terminal


def _print_table(examined: list[Examined]) -> None:
    table = Table(box=box.SIMPLE)
    for name in ("partition", "next offset", "streams", "size", "age", "model"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    table.add_column("valid", no_wrap=True)
    for entry in examined:
        ref, contents = entry.ref, entry.contents
        known = (f"{contents.streams:,}", _duration(contents.age_s), contents.model) if contents else ("", "", "")
        verdict = Text("yes", "green") if contents else Text("no", "red")
        table.add_row(
            str(ref.partition), str(ref.next_offset), known[0], decimal(ref.size_bytes), known[1], known[2], verdict
        )
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for entry in examined:
        if entry.damage is not None:
            console.print(Text(printable(entry.damage, 1000), "red"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{number} {unit}" for number, unit in parts if number] or ["0 s"]
    return " ".join(shown[:2])


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return printable(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
