"""Trace contexts in headers: each output carries its record's, an invalid one counts as none, and no cut shows."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.laws.test_engine import Record, cuts, engine_of, logs, published, restored_from, rules, run, state_of
from worker.encoding.cloud_events import CloudEvents
from worker.engine import Engine
from worker.records import Headers
from worker.tracing.context import MAX_STATE_BYTES, Tracing, context_of

VALID = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER = b"01-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-fe-what comes later"
INVALID = (b"", VALID.upper(), VALID[:-1], VALID + b"-", b"ff" + VALID[2:], b"00-" + b"0" * 32 + VALID[35:], b"\xff")


@st.composite
def parents(draw: Any) -> str:
    """A traceparent, or what looks like one."""
    sizes = (2, 32, 16, 2)
    fields = [draw(st.text("0123456789abcdef", min_size=size, max_size=size)) for size in sizes]
    fields[0] = draw(st.sampled_from(["00", "00", "01", "cc", "ff", fields[0]]))
    text = "-".join(fields) + draw(st.sampled_from(["", "", "", "-", "-00", "x", "-what the future brings"]))
    for at in draw(st.lists(st.integers(0, len(text) - 1), max_size=2)):
        text = text[:at] + draw(st.sampled_from("0afAFg-_ü")) + text[at + 1 :]
    begin, zeros = draw(st.sampled_from([(0, 0), (0, 0), (3, 32), (36, 16)]))
    return text[:begin] + "0" * zeros + text[begin + zeros :]


@given(parents())
def test_a_traceparent_counts_where_opentelemetry_takes_it(text: str) -> None:
    extracted = TraceContextTextMapPropagator().extract({"traceparent": text}, Context())
    theirs = get_current_span(extracted).get_span_context()
    ours = context_of([("traceparent", text.encode())])
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert (int(ours.trace_id, 16), int(ours.span_id, 16)) == (theirs.trace_id, theirs.span_id)
        assert ours.sampled == theirs.trace_flags.sampled
        assert context_of(ours.headers()) == ours


def test_the_last_header_of_a_name_counts_and_the_others_are_not_looked_at() -> None:
    found = context_of([("traceparent", b"x"), ("tracestate", b"a=1"), ("other", b""), ("traceparent", VALID)])
    assert found is not None
    assert found.headers() == [("traceparent", VALID), ("tracestate", b"a=1")]
    assert context_of([("traceparent", VALID), ("traceparent", None)]) is None
    assert context_of([("Traceparent", VALID), ("tracestate", b"a=1")]) is None


def test_a_state_that_nobody_has_to_carry_is_left_out() -> None:
    for state in (b"", None, b"a=1\n", b"\xff", b"a=" + b"x" * MAX_STATE_BYTES):
        found = context_of([("traceparent", VALID), ("tracestate", state)])
        assert found is not None
        assert found.headers() == [("traceparent", VALID)]


def test_a_later_version_is_carried_as_far_as_this_one_goes() -> None:
    found = context_of([("traceparent", LATER)])
    assert found is not None
    assert found.headers() == [("traceparent", b"00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-02")]


contexts = st.lists(
    st.sampled_from(
        [
            [],
            [("traceparent", VALID)],
            [("traceparent", VALID[:-1] + b"0"), ("tracestate", b"vendor=1")],
            [("traceparent", LATER)],
            *([("traceparent", text), ("tracestate", b"vendor=2")] for text in INVALID),
        ]
    ),
    min_size=1,
    max_size=9,
)


def with_contexts(log: list[Record], found: list[Headers]) -> list[Record]:
    return [
        (key, value, offset, time, [*(headers or ()), *found[i % len(found)]] or None)
        for i, (key, value, offset, time, headers) in enumerate(log)
    ]


def engine(rule: dict[str, Any], cloud_events: bool) -> Engine:
    made = engine_of(rule)
    made._tracing = Tracing()
    made._writer._cloud_events = CloudEvents("/pumps", "application/json") if cloud_events else None
    return made


def outputs(outcomes: list[Any]) -> list[tuple[bytes, Headers]]:
    return [
        (value, headers or [])
        for outcome in outcomes
        for value, headers in zip(outcome.values, outcome.headers or [None] * len(outcome.values), strict=True)
    ]


@given(logs(), contexts, st.booleans(), st.integers(0, 40), cuts, rules)
@settings(max_examples=25, deadline=None)
def test_each_output_carries_the_context_of_its_record_and_no_cut_or_restart_shows(
    log: list[Record], found: list[Headers], cloud_events: bool, at_restart: int, at: list[int], rule: Any
) -> None:
    log = with_contexts(log, found)
    own = {offset: context_of(headers or []) for *_, offset, _, headers in log}
    made = run(engine(rule, cloud_events), state_of(rule), log, [])
    assert published(made) == published(run(engine_of(rule), state_of(rule), log, []))
    whole = outputs(made)
    for value, headers in whole:
        context = own[json.loads(value)["source"][1]]
        assert [header for header in headers if not header[0].startswith(("ce_", "content-"))] == (
            [] if context is None else context.headers()
        )
        assert any(name == "ce_id" for name, _ in headers) == cloud_events
    for outcome in made:
        for letter in outcome.dead_letters:
            context = own[letter.offset]
            if context is not None:
                assert context_of(letter.headers) == context
                assert [name for name, _ in letter.headers].count("traceparent") == 1
    first = state_of(rule)
    before = outputs(run(engine(rule, cloud_events), first, log[:at_restart], at))
    again = restored_from(first, rule)
    again.committed = first.next_offset
    assert before + outputs(run(engine(rule, cloud_events), again, log[at_restart:], at)) == whole


def test_a_dead_letter_names_its_trace_behind_any_number_of_headers() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    headers = [*((f"h{i}", b"") for i in range(40)), ("traceparent", VALID)]
    (outcome,) = run(engine(rule, False), state_of(rule), [(b"a", b"bad", 0, 0, headers)], [])
    (letter,) = outcome.dead_letters
    assert letter.headers[:32] == headers[:32]
    assert letter.headers[32] == ("traceparent", VALID)


def test_without_the_setting_no_header_is_carried() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    log: list[Record] = [(b"a", b'{"features":[1,2]}', 0, 0, [("traceparent", VALID)])]
    (outcome,) = run(engine_of(rule), state_of(rule), log, [])
    assert outcome.headers is None
    (outcome,) = run(engine(rule, False), state_of(rule), [(b"a", b'{"features":[1,2]}', 0, 0, None)], [])
    assert outcome.headers is None
