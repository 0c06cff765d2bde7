"""The checker's reading of docs/records.md, and that of the worker, agree on any log under any rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings

from tests.chaos.checker.checkpoints import states_at
from tests.chaos.checker.contract import read_input
from tests.chaos.checker.hold import merged
from tests.chaos.checker.laws import check
from tests.chaos.checker.records import Input, Output, Rules
from tests.chaos.traffic import HOSTILE
from tests.laws.test_engine import engine_of, logs, rules, run, state_of

FEATURES = ("x", "y")


@dataclass(frozen=True)
class Sent:
    """A record as the client gives it."""

    record: Any

    def partition(self) -> int:
        return 0

    def key(self) -> bytes | None:
        return self.record[0]  # type: ignore[no-any-return]

    def value(self) -> bytes | None:
        return self.record[1]  # type: ignore[no-any-return]

    def offset(self) -> int:
        return self.record[2]  # type: ignore[no-any-return]

    def timestamp(self) -> tuple[int, int]:
        return int(self.record[3] >= 0), self.record[3]

    def headers(self) -> Any:
        return self.record[4]


def rules_of(rule: dict[str, Any]) -> Rules:
    return Rules(
        sequence_length=rule["sequence_length"],
        idle_timeout_ms=rule["idle_ms"],
        capacity=rule["capacity"],
        closing_events=True,
        max_record_bytes=10_000,
        max_samples_per_record=100,
    )


@given(logs(), rules)
@settings(max_examples=150, deadline=None)
def test_the_worker_and_the_checker_read_the_same_contract(log: list[Any], rule: Any) -> None:
    rule = rule | {"per_record": False}  # the checker reads an event for each sample
    state = state_of(rule)
    (outcome,) = run(engine_of(rule), state, log, [])[:1] or [None]
    read = [read_input(Sent(record), FEATURES, rules_of(rule)) for record in log]  # type: ignore[arg-type]
    if outcome is None:
        return
    outputs = [Output(0, i, *pair) for i, pair in enumerate(zip(outcome.keys, outcome.values, strict=True))]
    letters = [(letter.partition, letter.offset) for letter in outcome.dead_letters]
    assert check(read, outputs, None, letters, rules=rules_of(rule)) == []
    remembered = [record for record in read if not record.refused]
    known = states_at(remembered, {0: {state.next_offset}}, rules_of(rule))[0, state.next_offset]
    names = ("timesteps", "starts", "start_samples", "times", "offsets")
    assert known.stream_time_ms == state.stream_time
    assert {stream: columns for stream, (columns, _) in known.streams.items()} == {
        stream: tuple(int(getattr(state, name)[row]) for name in names) for stream, row in state.index.items()
    }


@pytest.mark.parametrize("sent", HOSTILE, ids=lambda sent: repr(sent)[:30])
def test_what_means_harm_is_refused_by_the_contract_too(sent: dict[str, Any]) -> None:
    record = (sent.get("key", b"stream"), sent["value"], 3, 50, None)
    found = read_input(Sent(record), ("x", "y", "z"), Rules(max_record_bytes=65_536))  # type: ignore[arg-type]
    assert found.refused


def test_what_the_topic_has_lost_is_taken_from_its_publisher() -> None:
    lost, kept = Input(0, 0, b"a"), Input(0, 1, b"a", samples=((1.0, 2.0),), refused=False)
    assert merged([kept], [lost, Input(0, 1, b"a")]) == [lost, kept]
    assert merged([kept], [Input(0, 1, b"a", is_sample=False, refused=True)])[0].refused
    with pytest.raises(AssertionError, match="published was"):
        merged([kept], [Input(0, 1, b"b")])
