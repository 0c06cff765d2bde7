"""`publish` and `watch`: what becomes of every line, and of every event, on the embedded broker."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import msgspec
import numpy as np
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from training.datasets import load, split
from worker.artifact import write_artifact
from worker.commands.event_view import Event, EventView, bar, one_json_line, one_line, parse_event, plain
from worker.commands.sample_sources import (
    BadLine,
    Fields,
    Sample,
    encode_float32,
    encode_json,
    encode_msgpack,
    read_csv,
    read_ndjson,
    read_sequences,
)
from worker.errors import UsageError
from worker.kafka.embedded import PARTITIONS, EmbeddedBroker

CLI = [sys.executable, "-c", "from worker.cli import main; main()"]


def ndjson(text: bytes, **fields: str) -> list[Sample | BadLine]:
    return list(read_ndjson(io.BytesIO(text), Fields(**fields), encode_json))


def table(text: str, encode=encode_json, features=None, **fields: str) -> list[Sample | BadLine]:
    return list(read_csv(io.BytesIO(text.encode()), Fields(**fields), encode, features))


# Sources


def test_ndjson_fields_go_along_and_the_stream_id_becomes_the_key():
    line = b'{"stream_id": "a", "features": [0.1, 2], "end_of_sequence": true, "timestep": 4}\n'
    (sample,) = ndjson(line)
    assert sample.key == b"a"
    assert json.loads(sample.value) == {"features": [0.1, 2], "end_of_sequence": True, "timestep": 4}
    assert sample.timestamp_ms is None


@pytest.mark.parametrize(
    "line",
    [
        b"nope",
        b"[1]",
        b'{"features": [1]}',
        b'{"stream_id": "", "x": 1}',
        b'{"stream_id": "' + b"a" * 257 + b'", "x": 1}',
        b'{"stream_id": true, "x": 1}',
        b'{"stream_id": null, "x": 1}',
        b'{"stream_id": "a"}',
        b'{"stream_id": "a", "x": NaN}',
        b'{"stream_id": "a", "x": 1',
        b"\xff\xfe",
    ],
)
def test_a_bad_line_is_named_and_the_rest_goes_on(line: bytes):
    good = b'{"stream_id": 7, "x": 1}\n'
    first, bad, last = ndjson(good + b"\n" + line + b"\n" + good)
    assert isinstance(bad, BadLine)
    assert bad.line == 3
    assert isinstance(first, Sample)
    assert first == last


def test_an_overlong_line_is_one_bad_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.commands.sample_sources.MAX_LINE_BYTES", 64)
    good = b'{"stream_id": 7, "x": 1}\n'
    first, bad, last = ndjson(good + b'{"stream_id": "' + b"a" * 300 + b'"}\n' + good)
    assert isinstance(bad, BadLine)
    assert first == last


def test_csv_features_are_sent_by_name_and_markers_typed():
    text = "x,stream_id,y,end_of_sequence,timestep,at\n1,s,2.5,,0,1700000000000\n3,s,4,true,,1700000000001\n"
    first, last = table(text, timestamp="at")
    assert json.loads(first.value) == {"x": 1.0, "y": 2.5, "timestep": 0}
    assert json.loads(last.value) == {"x": 3.0, "y": 4.0, "end_of_sequence": True}
    assert (first.timestamp_ms, last.timestamp_ms) == (1_700_000_000_000, 1_700_000_000_001)


def test_csv_chosen_columns_leave_the_others_out_and_order_the_raw_vector():
    (sample,) = table("stream_id,label,a,b\ns,walking,1,2\n", encode_float32, ["b", "a"])
    assert np.frombuffer(sample.value, "<f4").tolist() == [2.0, 1.0]


@pytest.mark.parametrize("row", ["s,1", "s,1,2,3", "s,one,2", "s,inf,2", ",1,2"])
def test_csv_bad_rows_are_named_by_line(row: str):
    good, bad = table(f"stream_id,a,b\ns,1,2\n{row}\n")
    assert isinstance(good, Sample)
    assert isinstance(bad, BadLine)
    assert bad.line == 3


@pytest.mark.parametrize("header", ["", "a,b", "stream_id,a,a"])
def test_csv_without_a_usable_header_is_wrong_usage(header: str):
    with pytest.raises(UsageError, match="line 1"):
        table(f"{header}\ns,1,2\n")


def test_msgpack_says_what_json_says():
    line = b'{"stream_id": "a", "features": [0.1, 2], "end_of_sequence": true, "timestep": 4}\n'
    (packed,) = read_ndjson(io.BytesIO(line), Fields(), encode_msgpack)
    (text,) = ndjson(line)
    assert isinstance(packed, Sample)
    assert isinstance(text, Sample)
    assert msgspec.msgpack.decode(packed.value) == json.loads(text.value)
    assert packed.key == text.key
    (row,) = table("x,stream_id\n1,s\n", encode_msgpack)
    assert msgspec.msgpack.decode(row.value) == {"x": 1.0}


def test_float32_markers_become_headers():
    encoded = encode_float32({"samples": [[1, 2], [3, 4]], "end_of_sequence": True, "start_of_sequence": True})
    value, headers = encoded
    assert np.frombuffer(value, "<f4").tolist() == [1, 2, 3, 4]
    assert headers == [("end-of-sequence", b""), ("start-of-sequence", b"")]
    with pytest.raises(ValueError, match="features"):
        encode_float32({"x": 1})


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_a_set_interleaves_its_streams_and_marks_each_end(lengths: list[int]):
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((length, 3)).astype(np.float32) for length in lengths]
    ids = [f"s{i}" for i in range(len(lengths))]
    samples = list(read_sequences(ids, inputs, encode_json))
    assert [sample.key for sample in samples[: len(ids)]] == [stream_id.encode() for stream_id in ids]
    for stream_id, expected in zip(ids, inputs, strict=True):
        values = [json.loads(sample.value) for sample in samples if sample.key == stream_id.encode()]
        np.testing.assert_array_equal(np.array([v["features"] for v in values], np.float32), expected)
        assert [v.get("end_of_sequence", False) for v in values] == [False] * (len(expected) - 1) + [True]


# Events


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


# On a broker


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as broker:
        broker.create_topics("samples", "probabilities", "interrupted", "limited", "bundled", "unseen")
        yield broker.bootstrap_servers


def cellstream(*arguments: str, servers: str, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [*CLI, *arguments, "--bootstrap-servers", servers],
        input=stdin,
        capture_output=True,
        timeout=180,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("CELLSTREAM_")},
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def records(servers: str, topic: str, count: int) -> list[tuple[bytes, bytes]]:
    reader = Consumer({"bootstrap.servers": servers, "group.id": "test"})
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found += [(message.key(), message.value()) for message in reader.consume(count, 0.2)]
    reader.close()
    return found


def test_good_lines_are_published_bad_ones_named_and_the_exit_code_says_so(broker: str, tmp_path: Path):
    file = tmp_path / "samples.ndjson"
    file.write_text('{"stream_id":"a","x":1}\nnope\n{"stream_id":"b","x":2}\n')
    out, err = cellstream("publish", str(file), "--json", servers=broker, code=1)
    summary = json.loads(out)
    assert (summary["published"], summary["bad_lines"], summary["failed"]) == (2, 1, 0)
    assert "line 2:" in err
    assert sorted(records(broker, "samples", 2)) == [(b"a", b'{"x":1}'), (b"b", b'{"x":2}')]


def test_strict_stops_at_the_first_bad_line_and_limit_after_so_many(broker: str):
    lines = b'{"stream_id":"a","x":1}\nnope\n' + b'{"stream_id":"a","x":2}\n' * 5
    arguments = ("publish", "-", "--json", "--input-topic", "limited")
    out, _ = cellstream(*arguments, "--strict", servers=broker, stdin=lines, code=1)
    assert json.loads(out)["published"] == 1
    out, _ = cellstream(*arguments, "--limit", "1", servers=broker, stdin=lines)
    assert json.loads(out)["published"] == 1


def test_a_missing_file_or_topic_is_said_before_anything_is_sent(broker: str):
    _, err = cellstream("publish", "no-such-set", servers=broker, code=2)
    assert "basic-motions" in err
    _, err = cellstream("publish", "-", "--input-topic", "absent", servers=broker, code=1)
    assert "absent does not exist" in err


def test_a_bundled_set_is_published_whole(broker: str):
    pytest.importorskip("aeon")
    out, _ = cellstream("publish", "basic-motions", "--json", "--input-topic", "bundled", servers=broker)
    published = json.loads(out)["published"]
    found = records(broker, "bundled", published)
    assert len(found) == published
    assert sum(b"end_of_sequence" in value for _, value in found) == len({key for key, _ in found})


def test_what_is_sent_of_a_bundled_set_is_what_the_artifact_was_not_trained_on(broker: str, tmp_path: Path):
    pytest.importorskip("aeon")
    arguments = ("publish", "basic-motions", "--json", "--input-topic", "unseen", "--artifact", str(tmp_path))
    sequences = load("basic-motions")
    parts = split(sequences, 3, 0.1)
    fitted_facts = {"dataset": "basic-motions", "seed": 3, **parts.facts()}
    layers = [keras.Input((None, 6)), keras.layers.GRU(2, return_sequences=True), keras.layers.Dense(4, "softmax")]
    named = {"features": sequences.features, "classes": sequences.classes}
    write_artifact(keras.Sequential(layers), tmp_path, **named, training=fitted_facts)
    out, _ = cellstream(*arguments, servers=broker)
    published = json.loads(out)["published"]
    assert published == parts.test.lengths.sum()
    assert {key.decode() for key, _ in records(broker, "unseen", published)} == set(parts.test.stream_ids)
    _, err = cellstream(*arguments[:1], "japanese-vowels", *arguments[2:], servers=broker, code=2)
    assert "was trained on basic-motions, not on japanese-vowels" in err
    _, err = cellstream(*arguments[:1], "-", *arguments[2:], servers=broker, code=2)
    assert "--artifact is of a bundled set" in err


def test_an_interrupt_delivers_what_was_accepted(broker: str):
    publish = subprocess.Popen(
        [*CLI, "publish", "-", "--json", "--bootstrap-servers", broker, "--input-topic", "interrupted"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert publish.stdin is not None
    publish.stdin.write(b'{"stream_id":"a","x":1}\n' * 3)
    publish.stdin.flush()
    assert len(records(broker, "interrupted", 3)) == 3  # it runs, and now waits for more
    publish.send_signal(signal.SIGINT)
    out, _ = publish.communicate(timeout=90)
    assert publish.returncode == 1
    summary = json.loads(out)
    assert summary["interrupted"]
    assert summary["published"] == 3


@pytest.fixture(scope="module")
def events(broker: str) -> None:
    producer = Producer({"bootstrap.servers": broker})
    event = '{"stream_id":"%s","sequence":"0-1","timestep":%d,"probability":0.5}'
    for timestep in range(3):
        for stream in ("a", "b"):
            producer.produce("probabilities", (event % (stream, timestep)).encode(), stream.encode())
    producer.produce("probabilities", b"not an event", b"a")
    assert producer.flush(10) == 0


@pytest.mark.usefixtures("events")
def test_watch_shows_committed_events_and_ends_at_its_limit(broker: str):
    arguments = ("watch", "--from-beginning", "--stream", "b", "--limit", "3")
    out, _ = cellstream(*arguments, "--json", servers=broker)
    assert [json.loads(line)["timestep"] for line in out.splitlines()] == [0, 1, 2]
    out, _ = cellstream(*arguments, servers=broker)
    assert out.splitlines() == ["b 0 0.5000", "b 1 0.5000", "b 2 0.5000"]


@pytest.mark.usefixtures("events")
def test_an_interrupt_ends_watch_with_success(broker: str):
    watch = subprocess.Popen(
        [*CLI, "watch", "--json", "--from-beginning", "--bootstrap-servers", broker],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert watch.stdout is not None
    watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=90)
    assert watch.returncode == 0, err
