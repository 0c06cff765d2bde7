"""What `watch` shows of events, whatever they hold."""

from __future__ import annotations

import io
import json

import orjson
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from worker.commands.event_view import Event, EventView, bar, one_json_line, one_line, parse_event, plain


def test_events_of_either_form_are_read_best_class_first():
    one = parse_event(b'{"stream_id":"a","timestep":3,"probability":0.25}')
    several = parse_event(b'{"stream_id":"a","timestep":0,"probabilities":{"x":0.25,"y":0.75}}')
    closing = parse_event(b'{"stream_id":"a","end_of_sequence":true,"reason":"marker","length":4}')
    assert one == Event("a", 3, (("", 0.25),), None)
    assert several is not None
    assert several.values[0] == ("y", 0.75)
    assert closing == Event("a", None, (), "marker")


def test_an_event_for_a_whole_record_shows_its_last_sample():
    chunk = parse_event(b'{"stream_id":"a","timestep":3,"probabilities":{"x":[0.75,0.25],"y":[0.25,0.75]}}')
    assert chunk == Event("a", 4, (("y", 0.75), ("x", 0.25)), None)


@given(st.binary(max_size=60) | st.just(None) | st.just(b'{"stream_id":"a","probability":[]}'))
def test_no_record_can_stop_the_view(value: bytes | None):
    parse_event(value)


@given(st.text(max_size=80), st.text(max_size=10), st.floats(0, 1))
def test_untrusted_text_never_reaches_the_terminal_as_control_or_markup(stream: str, name: str, p: float):
    event = Event(stream, 1, ((name, p), (name, p)), None)
    view = EventView(5, "[red]topic\x1b[2J")
    view.add([event], 0.0)
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(view.render(1.0))
    assert all(character == "\n" or character.isprintable() for character in out.getvalue())
    assert one_line(event).isprintable()
    assert "\x1b" not in plain(stream)


def test_markup_is_shown_as_it_is():
    view = EventView(5, "t")
    view.add([Event("[bold]x[/bold]", 1, (("", 0.5),), None)], 0.0)
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(view.render(0.0))
    assert "[bold]x[/bold]" in out.getvalue()


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False)))
def test_a_json_line_is_one_ascii_line_of_the_same_value(value: dict[str, object]):
    line = one_json_line(orjson.dumps(value))
    assert json.loads(line) == value
    assert line.isascii()
    assert line.decode().isprintable()


def test_a_json_line_keeps_the_bytes_of_plain_values():
    value = b'{"stream_id":"a","probability":1e-7}'
    assert one_json_line(value) is value


def test_the_view_is_bounded_and_shows_the_latest():
    view = EventView(3, "t")
    view.add([Event(f"s{i}", 0, (("", 0.5),), None) for i in range(5_000)], 0.0)
    assert len(view._latest) <= 1_000
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(view.render(0.0))
    assert [line.split()[0] for line in out.getvalue().splitlines() if line.strip().startswith("s4")] == [
        "s4999",
        "s4998",
        "s4997",
    ]


@given(st.floats(-1, 2))
def test_bars_have_one_width(p: float):
    assert len(bar(p)) == len(bar(0.0))
