"""What `watch` shows: the streams that were active last, with their latest probabilities.

Events come from a topic that anybody may have written to. Text of theirs is shown only after every character that
is not printable was replaced and its length was bounded; it is never parsed as markup.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass

import msgspec
import orjson
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

MAX_TEXT = 40
KEPT_STREAMS = 1_000
BAR_WIDTH = 16
PACE_OVER_S = 5.0
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Event:
    """A probability or closing event; `values` is class -> probability, best first, empty for a closing event.

    Of an event for a whole record it is the last sample's.
    """

    stream_id: str
    timestep: int | None
    values: tuple[tuple[str, float], ...]
    ended: str | None


def parse_event(value: bytes | None) -> Event | None:
    """The event of a record's value; None when it is none of ours."""
    try:
        fields = orjson.loads(value or b"")
        ended = str(fields.get("reason", "")) if fields.get("end_of_sequence") else None
        several = fields.get("probabilities", {"": fields["probability"]} if "probability" in fields else {})
        samples = max((len(p) for p in several.values() if isinstance(p, list)), default=1)
        last = {str(name): float(p[-1] if isinstance(p, list) else p) for name, p in several.items()}
        values = sorted(last.items(), key=lambda item: -item[1])
        if not values and ended is None:
            return None
        timestep = fields.get("timestep")
        reached = None if timestep is None else int(timestep) + samples - 1
        return Event(str(fields["stream_id"]), reached, tuple(values), ended)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def json_of_registered(packed: bytes) -> bytes:
    """The JSON event of one in Avro or Protobuf, which has no place for `source` and has a name for each list.

    Args:
        packed: the event's object in MessagePack.
    """
    fields = {name: found for name, found in msgspec.msgpack.decode(packed).items() if found is not None}
    if "partition" in fields:
        fields["source"] = [fields.pop("partition"), fields.pop("offset", None)]
    several = fields.get("probabilities")
    if isinstance(several, dict):
        fields["probabilities"] = {n: p["values"] if isinstance(p, dict) else p for n, p in several.items()}
    return msgspec.json.encode(fields)


def plain(text: str) -> str:
    """Untrusted text for one line of a terminal."""
    shown = "".join(character if character.isprintable() else "�" for character in text[:MAX_TEXT])
    return shown + "…" if len(text) > MAX_TEXT else shown


def bar(probability: float) -> str:
    """A bar of `BAR_WIDTH` characters, in eighths of one."""
    eighths = round(min(1.0, max(0.0, probability)) * BAR_WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (_EIGHTHS[rest] if rest else "")).ljust(BAR_WIDTH)


class EventView:
    """The latest event of each recently active stream.

    Args:
        rows: most streams shown.
        topic: where the events come from.
    """

    def __init__(self, rows: int, topic: str) -> None:
        self.rows = rows
        self.topic = topic
        self.events = 0
        self.unreadable = 0
        self._latest: OrderedDict[str, tuple[Event, float]] = OrderedDict()
        self._arrivals: deque[tuple[float, int]] = deque()

    def add(self, events: list[Event], now_s: float) -> None:
        """Take in events, oldest first."""
        for event in events:
            self._latest[event.stream_id] = (event, now_s)
            self._latest.move_to_end(event.stream_id)
            if len(self._latest) > max(self.rows, KEPT_STREAMS):
                self._latest.popitem(last=False)
        self.events += len(events)
        self._arrivals.append((now_s, len(events)))

    def render(self, now_s: float) -> Group:
        """The table, most recently active first."""
        while self._arrivals and self._arrivals[0][0] < now_s - PACE_OVER_S:
            self._arrivals.popleft()
        pace = sum(count for _, count in self._arrivals) / PACE_OVER_S
        head = f"{plain(self.topic)}: {self.events:,} events, {pace:,.0f}/s"
        if self.unreadable:
            head += f", {self.unreadable:,} unreadable records"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("stream", no_wrap=True, max_width=28)
        table.add_column("seen", justify="right", no_wrap=True, min_width=5)
        table.add_column("timestep", justify="right", no_wrap=True, min_width=8)
        table.add_column("probability", no_wrap=True, min_width=BAR_WIDTH + 20)
        table.add_column("", no_wrap=True, overflow="ellipsis")
        newest = list(reversed(self._latest.values()))[: self.rows]
        for event, seen_s in newest:
            stream, *values = _cells(event)
            table.add_row(stream, Text(f"{max(0.0, now_s - seen_s):.0f} s"), *values)
        return Group(Text(head), table, Text("Ctrl-C ends", style="dim"))


def one_line(event: Event) -> str:
    """An event for a log or a pipe."""
    if event.ended is not None:
        return f"{plain(event.stream_id)} ended {plain(event.ended)}"
    values = " ".join(f"{plain(name)}={p:.4f}" if name else f"{p:.4f}" for name, p in event.values)
    return f"{plain(event.stream_id)} {event.timestep} {values}"


def one_json_line(value: bytes) -> bytes:
    """The record's value as one line of ASCII: as it is where it is that already, else escaped."""
    if value.isascii() and value.decode("ascii").isprintable():
        return value
    return json.dumps(orjson.loads(value), separators=(",", ":")).encode()


def _cells(event: Event) -> tuple[Text, Text, Text, Text]:
    stream, timestep = Text(plain(event.stream_id)), Text("" if event.timestep is None else str(event.timestep))
    if event.ended is not None:
        return stream, timestep, Text(f"ended: {plain(event.ended)}", style="dim"), Text("")
    (name, best), *others = event.values
    first = Text(bar(best), style="green") + Text(f" {best:.3f} {plain(name)}", style="bold")
    return stream, timestep, first, Text("  ".join(f"{plain(n)} {p:.2f}" for n, p in others[:4]), style="dim")
