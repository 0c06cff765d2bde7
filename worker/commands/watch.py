"""`cellstream watch`: probabilities as they are committed, in a terminal or a pipe."""

from __future__ import annotations

import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Flag
from typing import Annotated, Any

import typer
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message, TopicPartition
from rich.console import Console
from rich.live import Live

from worker.commands.event_view import Event, EventView, json_of_registered, one_json_line, one_line, parse_event
from worker.encoding.msgpack import json_of
from worker.errors import BadRecord, FatalFault
from worker.kafka.admin import partition_count
from worker.registry.client import HEADER_BYTES
from worker.registry.values import registered_values
from worker.settings import Settings
from worker.settings.options import with_settings

POLL_S = 0.1
POLL_RECORDS = 1_000
REDRAWS_PER_S = 8

Shown = list[tuple[bytes, Event]]
READERS: dict[str, Callable[[bytes], bytes]] = {
    "json": bytes,
    "msgpack": json_of,
    "json-schema": lambda value: value[HEADER_BYTES:],
}


def _event_reader(settings: Settings) -> Callable[[bytes], bytes]:
    """What turns a record's value into a JSON event; nothing comes of one that cannot be read."""
    if settings.output_codec in READERS:
        return READERS[settings.output_codec]
    objects = registered_values(settings, settings.output_codec)

    def read(value: bytes) -> bytes:
        try:
            return json_of_registered(objects.object(value))
        except BadRecord:
            return b""

    return read


@with_settings("bootstrap_servers", "output_topic", "output_codec", "schema_registry_url", "schema_registry_auth")
def watch(
    settings: Settings,
    *,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the oldest event.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after this many events.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream ID; may be repeated.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Most streams in the table.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, as JSON.")] = False,
) -> None:
    """Show the probability events of committed transactions: those of the streams that were active last.

    On a terminal a live table; into a pipe one line for each event. It joins no group and commits nothing, so it
    takes nothing away from anybody. Ctrl-C ends it.

    Example: `cellstream watch --from-beginning --limit 10 --json`
    """
    wanted = {stream_id.encode() for stream_id in stream or ()}
    consumer = _reader(settings, OFFSET_BEGINNING if from_beginning else OFFSET_END)
    console = Console()
    view = EventView(rows, settings.output_topic)
    read = _event_reader(settings)
    live = console.is_terminal and not as_json
    with _asked_to_stop() as stop, _screen(console, view) if live else _lines(as_json) as show:
        left = limit
        while not stop.is_set() and left != 0:
            shown = _poll(consumer, wanted, view, read)[:left]
            left = None if left is None else left - len(shown)
            show(shown)
    consumer.close()
    if live:
        console.print(view.render(time.monotonic()))


def _reader(settings: Settings, offset: int) -> Consumer:
    """A consumer of all partitions that is a member of no group.

    Raises:
        FatalFault: no broker, no topic, or no right to describe it.
    """
    partitions = partition_count(settings.kafka_conf(), settings.output_topic)
    consumer = Consumer(
        {
            **settings.kafka_conf(),
            "group.id": f"cellstream-watch-{uuid.uuid4().hex[:8]}",  # the client wants one; it is never joined
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # where retention removed what was about to be read
        }
    )
    consumer.assign([TopicPartition(settings.output_topic, partition, offset) for partition in range(partitions)])
    return consumer


def _poll(consumer: Consumer, wanted: set[bytes], view: EventView, read: Callable[[bytes], bytes]) -> Shown:
    shown: Shown = []
    messages: list[Message] = consumer.consume(1, POLL_S)
    if messages:
        messages += consumer.consume(POLL_RECORDS - 1, 0)
    for message in messages:
        if message.error() is not None:
            fault = message.error()
            if fault.retriable() or fault.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                continue  # the second: it looks for a group's coordinator, and is a member of none
            raise FatalFault(f"topic {view.topic}: {fault.name()}: {fault.str()}")
        if wanted and message.key() not in wanted:
            continue
        value = read(message.value() or b"")
        event = parse_event(value)
        if event is None:
            view.unreadable += 1
        else:
            shown.append((value, event))
    return shown


@contextmanager
def _asked_to_stop() -> Iterator[Flag]:
    """Set by SIGINT and SIGTERM; an exception inside the client would lose what it had just fetched."""
    stop = Flag()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _screen(console: Console, view: EventView) -> Iterator[Callable[[Shown], None]]:
    """The live table; it fills at most the terminal's height."""
    view.rows = min(view.rows, max(1, console.height - 6))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        drawn_s = 0.0

        def show(shown: Shown) -> None:
            nonlocal drawn_s
            now_s = time.monotonic()
            view.add([event for _, event in shown], now_s)
            if now_s - drawn_s >= 1 / REDRAWS_PER_S:
                live.update(view.render(now_s), refresh=True)
                drawn_s = now_s

        yield show


@contextmanager
def _lines(as_json: bool) -> Iterator[Callable[[Shown], None]]:
    out: Any = sys.stdout.buffer

    def show(shown: Shown) -> None:
        for value, event in shown:
            out.write((one_json_line(value) if as_json else one_line(event).encode()) + b"\n")
        out.flush()

    yield show
