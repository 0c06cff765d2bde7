"""The producers' own count, and missing numbers: what is made of them never depends on polls, restarts or replays."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.reference import LeakySum, Reference
from tests.laws.test_engine import (
    FEATURES,
    Record,
    batch_of,
    by_sample,
    by_stream,
    cuts,
    described,
    engine_of,
    published,
    restored_from,
    run,
    state_of,
)
from tests.laws.test_frozen import LAYOUT, header
from worker.checkpoint import LiveSnapshot
from worker.checkpoint.file import write_file
from worker.checkpoint.reader import read_file
from worker.codecs import Float32Codec
from worker.errors import UsageError
from worker.reading import Reader
from worker.recovery.keeper import _fill
from worker.recovery.start import Log
from worker.settings.sources import load_settings
from worker.state.order import UNKNOWN, WINDOW, Track
from worker.state.sequences import DUPLICATE, GAP, LATE, NONE

KINDS = ("duplicate", "late", "gap")
actions = st.sampled_from(["accept", "drop", "dead_letter", "reset"])
rules = st.fixed_dictionaries(
    {
        "sequence_length": st.sampled_from([None, None, 3]),
        "idle_ms": st.sampled_from([None, 15]),
        "capacity": st.sampled_from([1, 2, 100]),
        "order": st.one_of(st.none(), st.fixed_dictionaries(dict.fromkeys(KINDS, actions))),
        "missing": st.sampled_from(["refuse", "last"]),
    }
)
vectors = st.lists(st.one_of(st.none(), *[st.floats(-4, 4, width=32)] * 3), min_size=FEATURES, max_size=FEATURES)


@st.composite
def logs(draw: Any) -> list[Record]:
    """Streams that count, mostly by one."""
    log, offset, time = [], draw(st.integers(0, 5)), 1000
    count = dict.fromkeys((b"a", b"b", b"c"), 0)
    for _ in range(draw(st.integers(0, 40))):
        offset += draw(st.sampled_from([1, 1, 2]))
        time += draw(st.sampled_from([0, 1, 10, -4, 40]))
        key = draw(st.sampled_from(sorted(count)))
        if draw(st.integers(0, 11)) == 0:
            log.append((key, draw(st.sampled_from([None, b"x"])), offset, time, None))
            continue
        timestep = draw(st.sampled_from([0] * 8 + [1, 2, 70, -1, -2, -3, -70])) + count[key]
        size = draw(st.sampled_from([1, 1, 1, 2, 5]))
        count[key] = max(0, timestep + size)
        member: dict[str, Any] = {"samples": draw(st.lists(vectors, min_size=size, max_size=size))}
        if draw(st.integers(0, 9)):
            member["timestep"] = timestep
        for marker in ("start_of_sequence", "end_of_sequence"):
            if draw(st.integers(0, 9)) == 0:
                member[marker] = True
        log.append((key, json.dumps(member).encode(), offset, time, None))
    return log


@given(logs(), cuts, rules)
@settings(max_examples=50, deadline=None)
def test_what_is_out_of_order_or_missing_is_treated_as_the_contract_says(
    log: list[Record], at: list[int], rule: Any
) -> None:
    reference = Reference(LeakySum(FEATURES, []), **rule)
    for key, value, offset, time, headers in log:
        reference.feed(key, value, offset, time, headers)
    outcomes = run(engine_of(rule), state_of(rule), log, at)
    actual = [(key, event) for key, value in published(outcomes) for event in by_sample(json.loads(value))]
    assert by_stream(actual) == by_stream(reference.events)
    letters = [letter for outcome in outcomes for letter in outcome.dead_letters]
    assert [letter.offset for letter in letters] == [offset for offset, _ in reference.refused]
    found = [kind for outcome in outcomes for kind in outcome.disorder.elements()]
    assert sorted(found) == sorted(reference.disorder)


@given(logs(), st.integers(0, 40), st.integers(0, 40), cuts, rules)
@settings(max_examples=50, deadline=None)
def test_no_cut_restart_or_replay_shows_in_the_bytes_the_state_or_the_counts(
    log: list[Record], checkpoint: int, committed: int, at: list[int], rule: Any
) -> None:
    checkpoint, committed = sorted((min(checkpoint, len(log)), min(committed, len(log))))
    whole = state_of(rule)
    undisturbed = run(engine_of(rule), whole, log, [])
    first, saved = state_of(rule), state_of(rule)
    before = run(engine_of(rule), first, log[:committed], at)
    run(engine_of(rule), saved, log[:checkpoint], at)
    restored = restored_from(saved, rule)
    restored.committed = first.next_offset
    after = run(engine_of(rule), restored, log[checkpoint:], at)
    assert published(before) + published(after) == published(undisturbed)
    assert described(restored) == described(whole)

    def counted(outcomes: list[Any]) -> dict[str, int]:
        return {kind: sum(outcome.disorder[kind] for outcome in outcomes) for kind in KINDS}

    def letters(outcomes: list[Any]) -> list[Any]:
        return [letter for outcome in outcomes for letter in outcome.dead_letters]

    assert counted(before + after) == counted(undisturbed)
    assert letters(before) + letters(after) == letters(undisturbed)


steps = st.lists(st.tuples(st.integers(-WINDOW - 3, WINDOW + 3), st.integers(1, WINDOW + 9)), max_size=30)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_a_track_knows_what_was_there_as_far_as_it_looks_back(found: list[tuple[int, int]]) -> None:
    track, seen, expected = Track(UNKNOWN, 0, 0, 0), set[int](), 0
    for step, count in found:
        timestep = max(0, expected + step)
        if not seen or timestep == expected:
            kind = NONE
        elif timestep > expected:
            kind = GAP
        else:
            kind = DUPLICATE if timestep in seen and expected - timestep <= WINDOW else LATE
        assert track.kind_of(timestep) == kind
        track.take(timestep, count, None)
        seen.update(range(timestep, timestep + count))
        expected = max(expected, timestep + count)
        assert track.expected == expected
        assert 0 <= track.seen < 2**WINDOW


def test_a_timestep_may_come_in_a_header() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9, "order": dict.fromkeys(KINDS, "dead_letter")}
    value = np.ones(FEATURES, "<f4").tobytes()
    texts = [b"7", b"8", b"8", b"10", b"9", b"", b"-1", b"x", b"1" * 19, None]
    headers = [None if text is None else [("seq", b"0"), ("seq", text)] for text in texts]
    log = [(b"a", value, i, i, header) for i, header in enumerate(headers)]
    engine = engine_of(rule, Float32Codec(FEATURES, 100, 1))
    engine._reader = Reader(Float32Codec(FEATURES, 100, 1), timestep_header="seq")
    outcome = engine.process([(batch_of(log), state_of(rule))])
    told = {letter.offset: letter.reason for letter in outcome.dead_letters}
    assert {offset: reason for offset, reason in told.items() if offset < 5} == {
        2: "duplicate_timestep",
        3: "timestep_gap",
    }
    assert {offset: told.get(offset) for offset in range(5, 10)} == {
        5: "wrong_type",
        6: "wrong_type",
        7: "wrong_type",
        8: "timestep_gap",
        9: None,  # one that carries none is the next
    }


def test_what_a_stream_is_not_asked_for_costs_it_nothing() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    assert state_of(rule).optional == ()
    assert state_of(rule).freeze().optional == ()


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"on_gap": "drop", "input_codec": "float32"}, "timestep_from=header:NAME"),
        ({"on_gap": "ignore"}, "on-gap"),
        ({"timestep_from": "header:"}, "timestep-from"),
        ({"timestep_from": "$.seq", "input_codec": "float32"}, "timestep_from"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, str], remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        load_settings(given, {}, None)


def test_an_order_is_judged_once_a_kind_has_an_action() -> None:
    assert not load_settings({"timestep_from": "header:seq"}, {}, None).judges_order
    named = load_settings({"timestep_from": "field:seq", "on_late": "drop"}, {}, None)
    assert named.judges_order


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b"]), vectors), max_size=30), cuts)
@settings(max_examples=60, deadline=None)
def test_a_missing_number_is_the_last_one_of_its_stream(samples: list[Any], at: list[int]) -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    last: dict[bytes, list[float]] = {}
    whole = []
    for key, vector in samples:
        before = last.setdefault(key, [0.0] * FEATURES)
        last[key] = [old if new is None else new for old, new in zip(before, vector, strict=True)]
        whole.append(last[key])

    def log(values: list[Any]) -> list[Record]:
        return [
            (key, json.dumps({"features": v}).encode(), i, i, None)
            for i, ((key, _), v) in enumerate(zip(samples, values, strict=True))
        ]

    expected = published(run(engine_of(rule), state_of(rule), log(whole), at))
    holes = rule | {"missing": "last"}
    assert published(run(engine_of(holes), state_of(holes), log([v for _, v in samples]), at)) == expected


@given(logs(), rules, rules)
@settings(max_examples=25, deadline=None)
def test_a_checkpoint_has_what_its_settings_asked_for_and_others_take_what_they_know(
    log: list[Record], rule: Any, other: Any
) -> None:
    saved = state_of(rule)
    run(engine_of(rule), saved, log, [])
    file = io.BytesIO()
    write_file(file, LiveSnapshot(**header(), streams=saved.freeze()), LAYOUT)
    found = read_file(file, LAYOUT, "file")
    assert set(found.extras) == set(saved.optional)
    restored = state_of(other | {"capacity": 100})
    _fill(restored, found, Log("samples", 0, "", 0, 0, None, 1, None))
    for name in restored.optional:
        nothing = UNKNOWN if name == "next_timesteps" else 0
        for stream_id, row in restored.index.items():
            known = name in saved.optional
            expected = getattr(saved, name)[saved.index[stream_id]] if known else nothing
            np.testing.assert_array_equal(getattr(restored, name)[row], expected)
