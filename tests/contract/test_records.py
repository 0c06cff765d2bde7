"""The record contracts: what a sample may look like, and what comes back for it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import MAX_RECORD_BYTES, Service
from worker.artifact import read_artifact

TOLERANCE = 1e-6
Oracle = Callable[[Sequence[Sequence[float]]], list[float]]
SAMPLES = [[0.5, -1.25, 2.0], [1.5, 0.25, -0.75], [-2.0, 1.0, 0.125], [0.0, 3.5, -1.0], [0.75, -0.5, 0.25]]


def probabilities(events: list[dict[str, Any]]) -> list[float]:
    return [event["probability"] for event in events]


def timesteps(events: list[dict[str, Any]]) -> list[int]:
    return [event["timestep"] for event in events]


def test_every_sample_is_answered_with_the_probability_so_far(
    service: Service, artifact: Path, keras_says: Oracle
) -> None:
    stream = service.stream()
    offsets = [
        service.send(2, key=stream.encode(), value=json.dumps({"features": x}).encode(), timestamp=1000 + step)
        for step, x in enumerate(SAMPLES)
    ]
    messages = service.messages(stream, len(SAMPLES))
    events = [json.loads(message.value()) for message in messages]
    assert [message.key() for message in messages] == [stream.encode()] * len(SAMPLES)
    model = read_artifact(artifact).digest[:12]
    for step, (event, offset) in enumerate(zip(events, offsets, strict=True)):
        assert list(event.items()) == [
            ("stream_id", stream),
            ("sequence", f"2-{offsets[0]}"),
            ("timestep", step),
            ("probability", event["probability"]),
            ("timestamp", 1000 + step),
            ("source", [2, offset]),
            ("model", model),
        ]
    assert probabilities(events) == pytest.approx(keras_says(SAMPLES), abs=TOLERANCE)


def test_streams_interleaved_in_a_partition_do_not_touch_each_other(service: Service, keras_says: Oracle) -> None:
    streams = {service.stream(): SAMPLES, service.stream(): SAMPLES[::-1]}
    for step in range(len(SAMPLES)):
        for stream, samples in streams.items():
            service.sample(stream, samples[step])
    for stream, samples in streams.items():
        assert probabilities(service.events(stream, 5)) == pytest.approx(keras_says(samples), abs=TOLERANCE)


def test_features_by_name_with_unknown_fields_beside_them_are_the_same_sample(
    service: Service, keras_says: Oracle
) -> None:
    stream = service.stream()
    for z, (x, y, last) in enumerate(SAMPLES):
        named = {"z": last, "note": ["unknown", z], "x": x, "timestep": z, "y": y}
        service.send(key=stream.encode(), value=json.dumps(named).encode())
    assert probabilities(service.events(stream, 5)) == pytest.approx(keras_says(SAMPLES), abs=TOLERANCE)


def test_chunk_is_answered_sample_by_sample(service: Service, keras_says: Oracle) -> None:
    stream = service.stream()
    first = service.sample(stream, SAMPLES[0])
    chunk = service.send(key=stream.encode(), value=json.dumps({"samples": SAMPLES[1:4]}).encode())
    last = service.sample(stream, SAMPLES[4])
    events = service.events(stream, 5)
    assert timesteps(events) == [0, 1, 2, 3, 4]
    assert [event["source"][1] for event in events] == [first, chunk, chunk, chunk, last]
    assert probabilities(events) == pytest.approx(keras_says(SAMPLES), abs=TOLERANCE)


END_MARKERS: dict[str, dict[str, Any]] = {
    "tombstone": {"value": None},
    "header": {"value": b"", "headers": [("end-of-sequence", b"")]},
    "field without a sample": {"value": b'{"end_of_sequence": true}'},
}


@pytest.mark.parametrize("marker", END_MARKERS)
def test_end_marker_of_its_own_ends_the_sequence_and_is_not_answered(
    service: Service, keras_says: Oracle, marker: str
) -> None:
    stream = service.stream()
    service.sample(stream, SAMPLES[0])
    service.sample(stream, SAMPLES[1])
    service.send(key=stream.encode(), **END_MARKERS[marker])
    again = service.sample(stream, SAMPLES[0])
    events = service.events(stream, 3)
    assert timesteps(events) == [0, 1, 0]
    assert events[2]["sequence"] == f"0-{again}" != events[1]["sequence"]
    assert probabilities(events) == pytest.approx([*keras_says(SAMPLES[:2]), *keras_says(SAMPLES[:1])], abs=TOLERANCE)


@pytest.mark.parametrize("marker", ["field", "header"])
def test_sample_with_an_end_marker_is_the_last_of_its_sequence(
    service: Service, keras_says: Oracle, marker: str
) -> None:
    stream = service.stream()
    service.sample(stream, SAMPLES[0])
    if marker == "field":
        service.sample(stream, SAMPLES[1], end_of_sequence=True)
    else:
        value = json.dumps({"features": SAMPLES[1]}).encode()
        service.send(key=stream.encode(), value=value, headers=[("end-of-sequence", b"1")])
    service.sample(stream, SAMPLES[2])
    events = service.events(stream, 3)
    assert timesteps(events) == [0, 1, 0]
    assert probabilities(events) == pytest.approx([*keras_says(SAMPLES[:2]), *keras_says(SAMPLES[2:3])], abs=TOLERANCE)


def test_start_marker_resets_before_its_sample(service: Service, keras_says: Oracle) -> None:
    stream = service.stream()
    service.sample(stream, SAMPLES[0])
    start = service.sample(stream, SAMPLES[1], start_of_sequence=True)
    service.sample(stream, SAMPLES[2])
    events = service.events(stream, 3)
    assert timesteps(events) == [0, 0, 1]
    assert events[2]["sequence"] == f"0-{start}"
    assert probabilities(events[1:]) == pytest.approx(keras_says(SAMPLES[1:3]), abs=TOLERANCE)


KIP_1034 = ("exception", "message", "topic", "partition", "offset")
BAD_VALUES: dict[str, bytes] = {
    "not JSON": b"sample",
    "not an object": b"[1, 2, 3]",
    "cut off": b'{"features": [1, 2',
    "too few features": b'{"features": [1, 2]}',
    "too many features": b'{"features": [1, 2, 3, 4]}',
    "a name is missing": b'{"x": 1, "y": 2}',
    "no features": b"{}",
    "NaN": b'{"features": [1, NaN, 3]}',
    "infinite in float32": b'{"features": [1, 1e39, 3]}',
    "number as text": b'{"features": [1, "2", 3]}',
    "null": b'{"features": [1, null, 3]}',
    "one of a chunk is bad": b'{"samples": [[1, 2, 3], [1, 2]]}',
    "oversized value": b'{"features": [1, 2, 3], "note": "' + b"x" * MAX_RECORD_BYTES + b'"}',
}


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_bad_value_becomes_a_dead_letter_and_its_stream_goes_on(service: Service, keras_says: Oracle, bad: str) -> None:
    stream, topic = service.stream(), service.deployment.input_topic
    service.sample(stream, SAMPLES[0])
    headers = [("trace", b"abc"), ("empty", None)]
    offset = service.send(key=stream.encode(), value=BAD_VALUES[bad], headers=headers)
    service.sample(stream, SAMPLES[1])
    (letter,) = service.dead_letters(stream.encode(), 1)
    assert BAD_VALUES[bad].startswith(letter.value())
    assert len(letter.value()) >= min(len(BAD_VALUES[bad]), 1024)
    found = letter.headers()
    assert found[:2] == headers
    added = dict(found[2:])
    assert set(added) == {"cellstream.reason", *(f"__streams.errors.{name}" for name in KIP_1034)}
    place = [added[f"__streams.errors.{name}"] for name in ("topic", "partition", "offset")]
    assert place == [topic.encode(), b"0", str(offset).encode()]
    assert added["__streams.errors.message"]
    events = service.events(stream, 2)
    assert timesteps(events) == [0, 1]
    assert probabilities(events) == pytest.approx(keras_says(SAMPLES[:2]), abs=TOLERANCE)


@pytest.mark.parametrize(
    "key", [None, b"", b"k" * 257, b"\xff\xfe"], ids=["missing", "empty", "oversized", "not UTF-8"]
)
def test_record_without_a_usable_stream_id_becomes_a_dead_letter(service: Service, key: bytes | None) -> None:
    offset = service.send(1, key=key, value=json.dumps({"features": SAMPLES[0]}).encode())
    (letter,) = service.dead_letters(key, 1)
    assert dict(letter.headers())["__streams.errors.offset"] == str(offset).encode()


def test_raw_vectors_in_sequences_of_fixed_length_with_closing_events(
    fixed_service: Service, keras_says: Oracle
) -> None:
    stream = fixed_service.stream()
    offsets = [
        fixed_service.send(3, key=b"some gateway", value=struct.pack("<3f", *x), headers=[("device", stream.encode())])
        for x in SAMPLES
    ]
    events = fixed_service.events(stream, 6)
    closing = events.pop(3)
    assert timesteps(events) == [0, 1, 2, 0, 1]
    assert [event["sequence"] for event in events] == [f"3-{offsets[0]}"] * 3 + [f"3-{offsets[3]}"] * 2
    assert probabilities(events) == pytest.approx([*keras_says(SAMPLES[:3]), *keras_says(SAMPLES[3:])], abs=TOLERANCE)
    assert list(closing) == [
        "stream_id", "sequence", "end_of_sequence", "reason", "length", "timestamp", "source", "model",
    ]  # fmt: skip
    assert (closing["sequence"], closing["end_of_sequence"]) == (f"3-{offsets[0]}", True)
    assert (closing["reason"], closing["length"]) == ("sequence_length", 3)


def test_vector_of_the_wrong_size_becomes_a_dead_letter(fixed_service: Service) -> None:
    stream = fixed_service.stream()
    headers = [("device", stream.encode())]
    fixed_service.send(key=stream.encode(), value=struct.pack("<2f", 1, 2), headers=headers)
    fixed_service.send(key=stream.encode(), value=struct.pack("<3f", 1, float("nan"), 2), headers=headers)
    assert len(fixed_service.dead_letters(stream.encode(), 2)) == 2
