"""`publish` and `watch`: what becomes of every line, and of every event, on the embedded broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from training.datasets import load, split
from worker.artifact import write_artifact
from worker.kafka.embedded import PARTITIONS, EmbeddedBroker

CLI = [sys.executable, "-c", "from worker.cli import main; main()"]


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
