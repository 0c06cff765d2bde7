"""Events in MessagePack say what events in JSON say, field by field, in the same order."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.encoding.encoder import Answers
from worker.encoding.json import JsonEncoder
from worker.encoding.msgpack import MsgpackEncoder, json_of
from worker.state.sequences import REASONS, Closing

ids = st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "replace"))
numbers = st.floats(width=32)
places = st.integers(0, 2**62)
MANY = tuple(f"class {i} %d" for i in range(20))


@pytest.mark.parametrize("classes", [("100 %",), ("ok", "worn"), MANY], ids=len)
@given(given_=st.data())
@settings(max_examples=60, deadline=None)
def test_an_event_has_the_fields_of_its_json_form(classes: tuple[str, ...], given_: st.DataObject) -> None:
    count = given_.draw(st.integers(0, 4))
    row = st.lists(numbers, min_size=len(classes), max_size=len(classes))
    rows = given_.draw(st.lists(row, min_size=count, max_size=count))
    outputs = np.array(rows, np.float32).reshape(count, len(classes))
    of_each = [given_.draw(st.lists(places, min_size=count, max_size=count)) for _ in range(3)]
    stream_ids = given_.draw(st.lists(ids, min_size=count, max_size=count))
    partition = given_.draw(st.integers(0, 2**31 - 1))
    written = []
    for kind in (JsonEncoder, MsgpackEncoder):
        encoder = kind(classes, "%0123456789a")
        timesteps, times, offsets = np.array(of_each[0], np.int64), of_each[1], of_each[2]
        prefixes = [encoder.prefix(stream_id, partition, offsets[0], 3) for stream_id in stream_ids]
        written.append(encoder.encode(Answers(partition, prefixes, timesteps, outputs, times, offsets)))
    for text, packed in zip(*written, strict=True):
        event = msgspec.msgpack.decode(packed)
        assert list(event) == list(json.loads(text))
        assert json_of(packed) == text


@pytest.mark.parametrize("classes", [("p",), ("ok", "worn")], ids=len)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
@example(counts=[15, 16])
@example(counts=[65_535, 65_536])
@settings(max_examples=20, deadline=None)
def test_an_event_of_several_samples_has_the_fields_of_its_json_form(
    classes: tuple[str, ...], counts: list[int]
) -> None:
    outputs = np.random.default_rng(sum(counts)).random((sum(counts), len(classes)), np.float32)
    outputs[0] = np.nan
    events = len(counts)
    written = []
    for kind in (JsonEncoder, MsgpackEncoder):
        encoder = kind(classes, "m")
        prefixes = [encoder.prefix(b"pump", 1, 2, 0)] * events
        timesteps = np.zeros(events, np.int64)
        answers = Answers(1, prefixes, timesteps, outputs, [3] * events, [4] * events, np.array(counts))
        written.append(encoder.encode(answers))
    for text, packed in zip(*written, strict=True):
        assert json_of(packed) == text


@given(ids, places, st.integers(1, len(REASONS) - 1))
def test_a_closing_event_has_the_fields_of_its_json_form(stream_id: bytes, place: int, reason: int) -> None:
    closing = Closing(0, 0, True, stream_id, place, 0, place, reason)
    encoders = JsonEncoder(("p",), "m"), MsgpackEncoder(("p",), "m")
    text, packed = (encoder.closing(1, closing, place, place) for encoder in encoders)
    assert json_of(packed) == text


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\x93\x01\x02\x03", b"\x81\x01\x02", b"\x91" * 100_000])
def test_what_is_no_event_does_not_become_one(value: bytes | None) -> None:
    assert json_of(value) in (b"", b'{"1":2}')
