"""The engine's laws: cuts, interleavings, replays and limits never show in what is published."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.reference import LeakySum, Reference
from worker.codecs import Float32Codec, JsonCodec
from worker.encoding.json import JsonEncoder
from worker.engine import Engine
from worker.event_writer import EventWriter
from worker.reading import Reader
from worker.records import Outcome, RecordBatch
from worker.state.frozen import COLUMNS
from worker.state.order import Order
from worker.state.partition import Extras, PartitionState

FEATURES = 2
BUCKETS = [(1, 2), (1, 4), (2, 2), (4, 2), (4, 8), (16, 2)]
Record = tuple[bytes | None, bytes | None, int, int, Any]  # key, value, offset, time, headers

numbers = st.floats(-4, 4, width=32)
vectors = st.lists(numbers, min_size=FEATURES, max_size=FEATURES)


@st.composite
def values(draw: Any) -> bytes | None:
    kind = draw(st.sampled_from(["sample"] * 8 + ["end", "start", "chunk", "tombstone", "bad", "infinite", "both"]))
    if kind == "tombstone":
        return None
    if kind == "bad":
        return draw(st.sampled_from([b"", b"x", b"[]", b"{}", b'{"features":[1]}', b'{"features":["1",2]}', b"\xff"]))
    if kind == "infinite":
        return b'{"features":[1e39,1]}'
    if kind == "chunk":
        member: dict[str, Any] = {"samples": draw(st.lists(vectors, min_size=1, max_size=7))}
    else:
        member = {"features": draw(vectors), "other": "ignored"}
    if kind in ("end", "both"):
        member["end_of_sequence"] = True
    if kind in ("start", "both"):
        member["start_of_sequence"] = True
    return json.dumps(member).encode()


@st.composite
def logs(draw: Any) -> list[Record]:
    keys = st.sampled_from([b"a", b"b", b"c", b'"d\\', "ü".encode(), b"f%d"] * 3 + [None, b"", b"k" * 257])
    headers = st.sampled_from([None] * 12 + [[("end-of-sequence", b"")], [("start-of-sequence", b"1")], [("x", None)]])
    log, offset, time = [], draw(st.integers(0, 5)), 1000
    for _ in range(draw(st.integers(0, 40))):
        offset += draw(st.sampled_from([1, 1, 1, 2, 5]))
        time += draw(st.sampled_from([0, 1, 3, 10, -4, 40]))
        header = draw(headers)
        value = draw(values())
        if header and header[0][0] == "end-of-sequence" and draw(st.booleans()):
            value = b""
        log.append((draw(keys), value, offset, draw(st.sampled_from([time, time, time, -1])), header))
    return log


rules = st.fixed_dictionaries(
    {
        "sequence_length": st.sampled_from([None, 1, 3]),
        "idle_ms": st.sampled_from([None, 15]),
        "capacity": st.sampled_from([1, 2, 3, 100]),
        "per_record": st.booleans(),
    }
)


def engine_of(rule: dict[str, Any], codec: Any = None) -> Engine:
    missing, order = rule.get("missing", "refuse"), rule.get("order")
    codec = codec or JsonCodec(["x", "y"], 10_000, 100, None, missing, order is not None)
    idle = None if rule["idle_ms"] is None else rule["idle_ms"] / 1000
    encoder = JsonEncoder(["positive"], "0123456789ab")
    per_record = rule.get("per_record", False)
    model = LeakySum(FEATURES, BUCKETS)
    length = rule["sequence_length"]
    judge = None if order is None else Order(**order, sequence_length=length, idle_ms=rule["idle_ms"])
    writer = EventWriter(encoder, True, per_record)
    return Engine(model, Reader(codec), writer, "in", length, idle, judge, missing == "last")


def state_of(rule: dict[str, Any], next_offset: int = 0) -> PartitionState:
    extras = Extras(rule.get("order") is not None, FEATURES if rule.get("missing") == "last" else 0)
    return PartitionState(0, rule["capacity"], LeakySum.initial_state, next_offset, extras)


def restored_from(saved: PartitionState, rule: dict[str, Any]) -> PartitionState:
    """What a checkpoint of a state gives back."""
    restored, frozen = state_of(rule), saved.freeze()
    columns = {name: frozen.take(name, 0, len(frozen)) for name in (*COLUMNS, *frozen.optional)}
    restored.load(frozen.take_ids(0, len(frozen)), **columns)
    restored.next_offset, restored.stream_time = saved.next_offset, saved.stream_time
    return restored


def batch_of(records: list[Record]) -> RecordBatch:
    columns = [list(column) for column in zip(*records, strict=True)]
    headers = columns[4] if any(columns[4]) else None
    return RecordBatch(0, columns[0], columns[1], columns[2], columns[3], headers)


def run(engine: Engine, state: PartitionState, log: list[Record], cuts: list[int]) -> list[Outcome]:
    bounds = sorted({0, len(log), *(cut for cut in cuts if cut <= len(log))})
    polls = [log[a:b] for a, b in itertools.pairwise(bounds)]
    return [engine.process([(batch_of(poll), state)]) for poll in polls]


def published(outcomes: list[Outcome]) -> list[tuple[bytes, bytes]]:
    return [pair for outcome in outcomes for pair in zip(outcome.keys, outcome.values, strict=True)]


def described(state: PartitionState) -> dict[bytes, Any]:
    """A state without its row numbers."""
    names = ("timesteps", "starts", "start_samples", "times", "offsets", "states", *state.optional)
    columns = {
        stream_id: tuple(getattr(state, name)[row].tobytes() for name in names)
        for stream_id, row in state.index.items()
    }
    return {b"": (state.next_offset, state.stream_time), **columns}


def by_sample(event: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of an event's samples."""
    several = event.get("probability")
    if not isinstance(several, list):
        return [event]
    return [event | {"timestep": event["timestep"] + i, "probability": p} for i, p in enumerate(several)]


def by_stream(events: list[tuple[bytes, dict[str, Any]]]) -> dict[bytes, list[dict[str, Any]]]:
    """Each stream's events, their numbers as the shortest text of a float32 reads."""
    found: dict[bytes, list[dict[str, Any]]] = {}
    for key, event in events:
        number = {"probability": float(str(np.float32(event["probability"])))} if "probability" in event else {}
        found.setdefault(key, []).append(event | number)
    return found


cuts = st.lists(st.integers(0, 40), max_size=12)


@given(logs(), cuts, rules)
@settings(max_examples=150, deadline=None)
def test_the_engine_publishes_what_the_contract_says_of_the_log(log: list[Record], at: list[int], rule: Any) -> None:
    limits = {name: limit for name, limit in rule.items() if name != "per_record"}
    reference = Reference(LeakySum(FEATURES, BUCKETS), **limits)
    for key, value, offset, time, headers in log:
        reference.feed(key, value, offset, time, headers)
    outcomes = run(engine_of(rule), state_of(rule), log, at)
    told = [(key, event) for key, value in published(outcomes) for event in by_sample(json.loads(value))]
    assert by_stream(told) == by_stream(reference.events)
    assert [letter.offset for outcome in outcomes for letter in outcome.dead_letters] == [
        o for o, _ in reference.refused
    ]
    assert sum(outcome.records for outcome in outcomes) == len(log)


@given(logs(), cuts, rules)
@settings(max_examples=150, deadline=None)
def test_no_cut_of_the_log_shows_in_the_bytes_or_in_the_state(log: list[Record], at: list[int], rule: Any) -> None:
    whole, cut = state_of(rule), state_of(rule)
    at_once = published(run(engine_of(rule), whole, log, []))
    in_pieces = published(run(engine_of(rule), cut, log, at))
    assert in_pieces == at_once
    assert described(cut) == described(whole)


@given(logs(), cuts, rules)
@settings(max_examples=60, deadline=None)
def test_an_event_for_each_record_is_cut_only_where_a_sequence_ends_within_it(
    log: list[Record], at: list[int], rule: Any
) -> None:
    outcomes = run(engine_of(rule | {"per_record": True}), state_of(rule), log, at)
    events = [json.loads(value) for _, value in published(outcomes)]
    events = [event for event in events if "probability" in event]
    assert all(isinstance(event["probability"], list) for event in events)
    places = [(event["source"][1], event["sequence"]) for event in events]
    assert len(places) == len(set(places))
    assert sum(outcome.probabilities for outcome in outcomes) == len(events)


@given(logs(), st.integers(0, 40), st.integers(0, 40), cuts, rules)
@settings(max_examples=150, deadline=None)
def test_a_restored_state_goes_on_with_the_same_bytes_and_never_answers_twice(
    log: list[Record], checkpoint: int, committed: int, at: list[int], rule: Any
) -> None:
    checkpoint, committed = sorted((min(checkpoint, len(log)), min(committed, len(log))))
    undisturbed = published(run(engine_of(rule), state_of(rule), log, []))

    first = state_of(rule)
    before = published(run(engine_of(rule), first, log[:committed], at))
    saved = state_of(rule)
    run(engine_of(rule), saved, log[:checkpoint], at)

    restored = restored_from(saved, rule)
    restored.committed = first.next_offset
    after = published(run(engine_of(rule), restored, log[checkpoint:], at))
    assert before + after == undisturbed


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), vectors), min_size=1, max_size=30), cuts)
@settings(max_examples=60, deadline=None)
def test_float32_values_mean_what_the_same_numbers_mean_in_json(samples: list[Any], at: list[int]) -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 100}
    as_json = [(key, json.dumps({"features": x}).encode(), i, i, None) for i, (key, x) in enumerate(samples)]
    as_named = [(key, json.dumps({"y": x[1], "x": x[0]}).encode(), i, i, None) for i, (key, x) in enumerate(samples)]
    as_floats = [(key, np.array(x, "<f4").tobytes(), i, i, None) for i, (key, x) in enumerate(samples)]
    expected = published(run(engine_of(rule), state_of(rule), as_json, at))
    assert published(run(engine_of(rule), state_of(rule), as_named, at)) == expected
    assert published(run(engine_of(rule, Float32Codec(FEATURES, 100, 10)), state_of(rule), as_floats, at)) == expected


def test_partitions_are_stepped_together_and_stay_apart() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 100}
    log = [(b"same", b'{"features":[%d,1]}' % i, i, i, None) for i in range(6)]
    alone = [run(engine_of(rule), PartitionState(p, 9, LeakySum.initial_state, 0), log, []) for p in (0, 1)]
    states = [PartitionState(p, 9, LeakySum.initial_state, 0) for p in (0, 1)]
    batches = [batch_of(log), batch_of(log)]
    batches[1].partition = 1
    together = engine_of(rule).process(list(zip(batches, states, strict=True)))
    assert together.values == [value for outcomes in alone for value in outcomes[0].values]
    assert described(states[0]) == described(states[1])


@pytest.mark.parametrize("key", [b"a", b"b"])
def test_the_last_time_that_there_is_ends_the_silence_of_a_stream_without_times(key: bytes) -> None:
    rule = {"sequence_length": None, "idle_ms": 15, "capacity": 3}
    log: list[Record] = [(b"a", b'{"features":[1,2]}', 0, -1, None), (key, b'{"features":[1,2]}', 1, 2**63 - 1, None)]
    whole, cut = (published(run(engine_of(rule), state_of(rule), log, cuts)) for cuts in ([], [1]))
    assert whole == cut
    assert [json.loads(value).get("reason") for _, value in whole] == [None, "idle_timeout", None]
