"""Whole logs: whatever producers write, no record stops the worker, and no cut of the log into polls shows.

1 byte     which rules hold: see `RULES`
then for each record: 1 byte what it has, 1 byte length of the key, 1 byte length of the value, 8 bytes time in ms,
big-endian; key; value
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from tests.laws.test_engine import Record, described, engine_of, published, run, state_of
from tests.security.fuzz.making import Target, damaged

HEAD = struct.Struct(">BBBq")
HEADERS: tuple[Any, ...] = (
    *(None, None, None, [("end-of-sequence", b"")]),
    *([("start-of-sequence", b"1")], [("end-of-sequence", b"false")], [("end-of-sequence", None)], [("x", b"\xff")]),
)
NO_KEY, NO_VALUE = 8, 16  # bits behind the number of the headers
RULES = (1, 2, 4, 8, 16, 32)  # bits: a length, a time-out, events by record, order, which action, missing numbers
VALUES = (
    b'{"features":[1,2]}',
    b'{"samples":[[1,2],[3,null]]}',
    b'{"features":[1,null],"timestep":3}',
    b'{"features":[1,2],"timestep":4611686018427387903,"end_of_sequence":true}',
    b'{"x":1,"y":2,"start_of_sequence":true,"timestep":0}',
    b"not json",
)
TIMES = (-1, 0, 5, 20, 1_000, 2**63 - 1, -(2**63))


def target() -> Target:
    """The log as a target."""
    record = st.builds(
        _packed,
        st.integers(0, 31),
        st.sampled_from([b"a", b"b", b"c", b"d", b"", b"\xff", "ü".encode()]),
        st.sampled_from(VALUES),
        st.sampled_from(TIMES) | st.integers(0, 100),
    )
    log = st.tuples(st.integers(0, 63), st.lists(record, max_size=8)).map(
        lambda log: bytes([log[0]]) + b"".join(log[1])
    )
    return Target(st.one_of(log, log.filter(bool).flatmap(damaged)), check)


def check(content: bytes) -> None:
    """Raise when something shows."""
    rule, log = _rule(content[:1]), _records(content[1:])
    if not log:
        return
    whole, cut = state_of(rule), state_of(rule)
    outcomes = run(engine_of(rule), whole, log, [])
    pieces = run(engine_of(rule), cut, log, list(range(1, len(log), 2)))
    assert published(outcomes) == published(pieces)
    assert described(whole) == described(cut)
    assert sum(outcome.records for outcome in outcomes) == len(log)
    assert _refused(outcomes) == _refused(pieces)
    assert whole.next_offset == log[-1][2] + 1


def _refused(outcomes: list[Any]) -> list[Any]:
    return [letter for outcome in outcomes for letter in outcome.dead_letters]


def _rule(content: bytes) -> dict[str, Any]:
    bits = content[0] if content else 0
    length, idle, per_record, order, reset, missing = (bool(bits & rule) for rule in RULES)
    action = "reset" if reset else "dead_letter"
    return {
        "sequence_length": 3 if length else None,
        "idle_ms": 15 if idle else None,
        "capacity": 3,
        "per_record": per_record,
        "order": {"duplicate": "drop", "late": action, "gap": action} if order else None,
        "missing": "last" if missing else "refuse",
    }


def _packed(has: int, key: bytes, value: bytes, time: int) -> bytes:
    return HEAD.pack(has, len(key), len(value), time) + key + value


def _records(content: bytes) -> list[Record]:
    found: list[Record] = []
    place = 0
    while place + HEAD.size <= len(content):
        has, keys, values, time = HEAD.unpack_from(content, place)
        place += HEAD.size
        key, value = content[place : place + keys], content[place + keys : place + keys + values]
        place += keys + values
        headers = HEADERS[has % len(HEADERS)]
        found.append((None if has & NO_KEY else key, None if has & NO_VALUE else value, 2 * len(found), time, headers))
    return found
