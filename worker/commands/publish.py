"""`cellstream publish`: samples from a file, a pipe or a bundled set into the samples topic."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from worker.artifact import read_artifact
from worker.commands.publisher import send
from worker.commands.sample_sources import (
    BadLine,
    Encoder,
    Fields,
    Sample,
    encode_float32,
    encode_json,
    encode_msgpack,
    read_csv,
    read_ndjson,
    read_sequences,
)
from worker.errors import FatalFault, UsageError
from worker.kafka.admin import partition_count
from worker.settings import Settings
from worker.settings.options import with_settings

DATASETS = "cellstream.datasets"
SHOWN_BAD_LINES = 20
ENCODERS: dict[str, Encoder] = {"json": encode_json, "msgpack": encode_msgpack, "float32": encode_float32}


@dataclass(frozen=True)
class Source:
    """What is to be sent; `share` says how much of it was read, between 0 and 1, None if nobody can know."""

    samples: Iterator[Sample | BadLine]
    share: Callable[[int], float | None]


@with_settings("bootstrap_servers", "input_topic", "input_codec")
def publish(
    settings: Settings,
    source: Annotated[str, typer.Argument(metavar="FILE|-|SET", help="NDJSON or CSV file, - or a bundled set.")],
    *,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Samples per second; as fast as it goes if not given.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Stop after this many samples.")] = None,
    form: Annotated[
        Literal["ndjson", "csv"] | None, typer.Option("--format", help="Of FILE; by its name (.csv) if not given.")
    ] = None,
    stream_id_column: Annotated[str, typer.Option(help="Column or field that holds the stream ID.")] = "stream_id",
    timestamp_column: Annotated[
        str | None, typer.Option(help="Column or field with the event time in ms since 1970; now if not given.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="CSV columns of the features, A,B,C; all others if not given.")
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Bundled set: send what the training of this artifact held out, whatever its seed and `--hold-out`.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Publish samples, keyed by stream ID.

    NDJSON: one object a line, `{"stream_id": "s1", "features": [0.1, 0.2, 0.3]}`, or the features by name; the other
    fields (`end_of_sequence`, `start_of_sequence`, `timestep`) go along. CSV: a header, one sample a row, the features
    as columns by name. A bundled set (`basic-motions`, `japanese-vowels`): the recordings that `cellstream train` holds
    out of it by default, or those that the training of `--artifact` held out, as concurrent streams, one sample of
    each in turn, each ended by its marker.

    A key goes to the partition that Java's producer would choose (murmur2), so that one stream stays in one partition
    whoever writes it. Bad lines are named and passed over; then, or if a sample could not be delivered, or after
    Ctrl-C (what was accepted is delivered first), the exit code is 1.

    Example: `cellstream publish basic-motions --rate 200`
    """
    if settings.input_codec not in ENCODERS:
        raise UsageError(
            f"--input-codec {settings.input_codec}: this command writes {', '.join(ENCODERS)}, and has no schema for "
            "your samples. Write them with a producer that has, and with a serializer of confluent-kafka or of Java; "
            "kafka-avro-console-producer and its sisters take JSON lines and a schema"
        )
    encode = ENCODERS[settings.input_codec]
    fields = Fields(stream_id_column, timestamp_column)
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        names = [name.strip() for name in columns.split(",")] if columns else None
        opened = _open(source, form, fields, encode, names, artifact, stack)
        partition_count(settings.kafka_conf(), settings.input_topic)  # no topic: said before the first sample
        on_progress = stack.enter_context(_progress(console, opened, limit))
        sending = send(
            settings.kafka_conf(),
            settings.input_topic,
            opened.samples,
            rate=rate,
            limit=limit,
            on_bad_line=partial(_tell, console, strict, []),
            on_progress=on_progress,
        )
    summary = sending.to_json()
    if as_json:
        print(json.dumps(summary))
    else:
        pace = sending.accepted / max(sending.seconds, 1e-3)
        print(f"{summary['published']:,} samples to {sending.topic} in {sending.seconds:.1f} s ({pace:,.0f}/s)")
    if sending.failed:
        raise FatalFault(f"{sending.failed:,} samples were not delivered: {sending.reason}")
    if sending.interrupted:
        raise FatalFault("interrupted before the end; what had been accepted is published")
    if sending.bad_lines:
        raise FatalFault(f"bad lines, not published: {sending.bad_lines:,}")


def _open(
    source: str,
    form: str | None,
    fields: Fields,
    encode: Encoder,
    columns: list[str] | None,
    artifact: Path | None,
    stack: ExitStack,
) -> Source:
    """Find out what `source` names; a file wins over a set of the same name."""
    path = Path(source)
    datasets = {entry.name: entry for entry in entry_points(group=DATASETS)}
    if source in datasets and not path.exists():
        sequences = datasets[source].load()(**({} if artifact is None else _division(artifact, source)))
        total = sum(map(len, sequences.inputs))
        return Source(read_sequences(sequences.stream_ids, sequences.inputs, encode), lambda sent: sent / total)
    if artifact is not None:
        raise UsageError(f"--artifact is of a bundled set, {' or '.join(sorted(datasets))}; {source} is sent as it is")
    if source == "-":
        file: BinaryIO = sys.stdin.buffer
        share: Callable[[int], float | None] = lambda sent: None  # noqa: E731 - a pipe has no size
    else:
        file, share = _open_file(path, stack, sorted(datasets))
    if (form or ("csv" if path.suffix.lower() == ".csv" else "ndjson")) == "ndjson":
        return Source(read_ndjson(file, fields, encode), share)
    return Source(read_csv(file, fields, encode, columns), share)


def _division(artifact: Path, name: str) -> dict[str, Any]:
    """How the training of an artifact divided a bundled set.

    Raises:
        UsageError: it was trained on other data, or held nothing out.
    """
    facts = read_artifact(artifact).manifest.training or {}
    if facts.get("dataset") != name:
        raise UsageError(f"--artifact {artifact}: was trained on {facts.get('dataset', 'other data')}, not on {name}")
    share = facts["division"]["held_out"]
    if not share:
        raise UsageError(f"--artifact {artifact}: was trained with --hold-out 0, on every recording of {name}")
    return {"seed": facts["seed"], "share": share}


def _open_file(path: Path, stack: ExitStack, datasets: list[str]) -> tuple[BinaryIO, Callable[[int], float | None]]:
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as fault:
        known = f"; bundled sets: {', '.join(datasets)}" if datasets else ""
        raise UsageError(f"{path}: {fault.strerror}{known}") from None
    size = os.fstat(file.fileno()).st_size
    return file, lambda sent: file.raw.tell() / size if size else None


@contextmanager
def _progress(console: Console, source: Source, limit: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; yields what to call with the number of samples sent."""
    if not console.is_terminal:
        yield lambda sent: None
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[sent]:,} samples"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, sent=0)

        def update(sent: int) -> None:
            share = sent / limit if limit else source.share(sent)
            bar.update(task, sent=sent, completed=share or 0.0, total=None if share is None else 1.0)

        yield update


def _tell(console: Console, strict: bool, told: list[BadLine], bad: BadLine) -> bool:
    """Name a bad line, the first few of them; whether to go on."""
    if len(told) < SHOWN_BAD_LINES:
        told.append(bad)
        console.print(f"line {bad.line}: {ascii(bad.message)[1:-1]}")
        if len(told) == SHOWN_BAD_LINES and not strict:
            console.print("further bad lines are only counted")
    return not strict
