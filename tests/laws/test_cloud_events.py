"""CloudEvents headers: every event has an ID of its own, the same after any cut and any replay."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.brokers.fixtures import TestCluster
from tests.deployment import Reader, until_read
from tests.laws.test_engine import Record, cuts, engine_of, logs, published, restored_from, rules, run, state_of
from worker.encoding.cloud_events import CloudEvents
from worker.engine import Engine
from worker.kafka import FlushingSink


def engine(rule: dict[str, Any]) -> Engine:
    made = engine_of(rule)
    made._writer._cloud_events = CloudEvents("/pumps", "application/json")
    return made


def with_headers(outcomes: list[Any]) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
    return [
        (key, value, dict(headers))
        for outcome in outcomes
        for key, value, headers in zip(outcome.keys, outcome.values, outcome.headers, strict=True)
    ]


@given(logs(), st.integers(0, 40), cuts, rules)
@settings(max_examples=25, deadline=None)
def test_headers_say_of_an_event_what_its_value_says_and_no_cut_or_restart_shows(
    log: list[Record], at_restart: int, at: list[int], rule: Any
) -> None:
    whole = with_headers(run(engine(rule), state_of(rule), log, []))
    assert [pair[:2] for pair in whole] == published(run(engine_of(rule), state_of(rule), log, []))
    first = state_of(rule)
    before = with_headers(run(engine(rule), first, log[:at_restart], at))
    again = restored_from(first, rule)
    again.committed = first.next_offset
    assert before + with_headers(run(engine(rule), again, log[at_restart:], at)) == whole
    ids = [headers["ce_id"] for *_, headers in whole]
    assert len(ids) == len(set(ids)), "two events with one ID"
    for key, value, headers in whole:
        event = json.loads(value)
        closes = "end_of_sequence" in event
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_source"] == b"/pumps"
        assert headers["ce_type"] == (b"cellstream.end_of_sequence" if closes else b"cellstream.probability")
        assert headers["ce_subject"] == key == event["stream_id"].encode()
        assert headers["content-type"] == b"application/json"
        if closes:
            assert headers["ce_id"].decode() == f"{event['sequence']}-end"
        else:
            assert headers["ce_id"].decode().partition(".")[0] == "{}-{}".format(*event["source"])
        moment = headers.get("ce_time")
        assert (moment is None) == (event["timestamp"] < 0)
        if moment is not None:
            assert round(datetime.fromisoformat(moment.decode()).timestamp() * 1000) == event["timestamp"]


def test_without_a_source_there_are_no_headers() -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    (outcome,) = run(engine_of(rule), state_of(rule), [(b"a", b'{"features":[1,2]}', 0, 0, None)], [])
    assert outcome.headers is None


def test_headers_reach_the_broker_with_their_events(embedded: TestCluster) -> None:
    rule = {"sequence_length": None, "idle_ms": None, "capacity": 9}
    log: list[Record] = [(b"a", b'{"features":[%d,2]}' % i, i, i, None) for i in range(3)]
    (outcome,) = run(engine(rule), state_of(rule), log, [])
    topics = embedded.topic("probabilities"), embedded.topic("dead-letters")
    sink = FlushingSink(embedded.conf, *topics)
    sink.start()
    sink.produce(outcome)
    with Reader(embedded, topics[0]) as reader:
        until_read(reader, 3)
        read = [(message.key(), message.value(), dict(message.headers())) for message in reader.messages]
    sink.close()
    assert read == with_headers([outcome])
