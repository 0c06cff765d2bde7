"""Small programs of client calls, and what a client sees of them: the contract between the simulator and Kafka.

A program is given a `Side`, which has the classes of confluent_kafka or those of the simulator, and returns plain
values: offsets, error codes with their flags, callbacks in their order. The two sides must return the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import TopicPartition

from tests.simulator import group_programs as groups
from tests.simulator.side import PATIENCE_S, Side, told


def records_and_markers(side: Side) -> Any:
    topic = side.topic(1)
    producer = side.transactional(side.unique("tx"))
    seen: list[Any] = []
    for values, commit in ((("a", "b"), True), (("c",), False), (("d",), True)):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value.encode(), partition=0)
        producer.flush(PATIENCE_S)
        seen.append(("open", side.bounds(topic)))
        producer.commit_transaction(PATIENCE_S) if commit else producer.abort_transaction(PATIENCE_S)
        side.poll_until(lambda: side.bounds(topic)[1] == side.bounds(topic)[2])
        seen.append(("ended", side.bounds(topic)))
    for isolation in ("read_committed", "read_uncommitted"):
        seen.append((isolation, side.read(topic, isolation, 3 if isolation == "read_committed" else 4)))
    producer.begin_transaction()
    producer.produce(topic, b"e", partition=0)
    producer.flush(PATIENCE_S)
    seen.append(("behind an open one", side.read(topic, "read_committed", 3), side.bounds(topic)))
    return seen


def an_empty_transaction(side: Side) -> Any:
    producer = side.transactional(side.unique("tx"))
    producer.begin_transaction()
    seen = [told(lambda: producer.commit_transaction(PATIENCE_S))]
    producer.begin_transaction()
    return [*seen, told(lambda: producer.abort_transaction(PATIENCE_S)), told(producer.begin_transaction)]


def calls_out_of_order(side: Side) -> Any:
    topic = side.topic(1)
    raw = side.producer({**side.conf, "transactional.id": side.unique("tx")})
    seen = [told(raw.begin_transaction)]
    producer = side.transactional(side.unique("tx"))
    seen += [told(lambda: producer.produce(topic, b"x", partition=0))]
    seen += [told(lambda: producer.commit_transaction(5.0)), told(lambda: producer.abort_transaction(5.0))]
    seen += [told(producer.begin_transaction), told(producer.begin_transaction)]
    return seen


def an_older_producer(side: Side, what: str) -> Any:
    """A predecessor with records in an open transaction, or without, after its successor has registered."""
    topic, name, group = side.topic(1), side.unique("tx"), side.unique("group")
    calls: list[Any] = []
    member = side.member(topic, group, "m", calls)
    side.poll_until(lambda: bool(calls), member)
    older = side.transactional(name)
    older.begin_transaction()
    if what != "nothing":
        older.produce(topic, b"old", partition=0)
        older.flush(PATIENCE_S)
    side.transactional(name)
    seen = [side.bounds(topic)]
    if what == "offsets":
        at = [TopicPartition(topic, 0, 1)]
        metadata = member.consumer_group_metadata()
        seen += [told(lambda: older.send_offsets_to_transaction(at, metadata, PATIENCE_S))]
    elif what == "more":
        older.produce(topic, b"older", partition=0)
        seen += [told(lambda: older.flush(PATIENCE_S))]
    elif what == "abort":
        seen += [told(lambda: older.abort_transaction(PATIENCE_S))]
    seen += [told(lambda: older.commit_transaction(PATIENCE_S)), told(lambda: older.abort_transaction(PATIENCE_S))]
    seen += [told(older.begin_transaction)]
    side.sleep(0.1)
    return [*seen, side.read(topic, "read_committed", 0)]


def a_first_call_of_an_older_producer(side: Side, what: str) -> Any:
    """A predecessor that was between two transactions when its successor registered."""
    topic, name, group = side.topic(1), side.unique("tx"), side.unique("group")
    calls: list[Any] = []
    member = side.member(topic, group, "m", calls)
    side.poll_until(lambda: bool(calls), member)
    older = side.transactional(name)
    older.begin_transaction()
    older.produce(topic, b"old", partition=0)
    older.commit_transaction(PATIENCE_S)
    side.transactional(name)
    seen = [told(older.begin_transaction)]
    if what == "produce":
        older.produce(topic, b"older", partition=0)
        seen += [told(lambda: older.flush(PATIENCE_S))]
    else:
        metadata = member.consumer_group_metadata()
        at = [TopicPartition(topic, 0, 1)]
        seen += [told(lambda: older.send_offsets_to_transaction(at, metadata, PATIENCE_S))]
    seen += [told(lambda: older.commit_transaction(PATIENCE_S)), told(lambda: older.abort_transaction(PATIENCE_S))]
    return [*seen, side.read(topic, "read_committed", 1)]


def a_transaction_that_times_out(side: Side, then: str) -> Any:
    topic, group = side.topic(1), side.unique("group")
    calls: list[Any] = []
    member = side.member(topic, group, "m", calls)
    side.poll_until(lambda: bool(calls), member)
    producer = side.transactional(side.unique("tx"), **{"transaction.timeout.ms": 1000})
    producer.begin_transaction()
    producer.produce(topic, b"late", partition=0)
    producer.flush(PATIENCE_S)
    deadline = side.now() + PATIENCE_S
    while side.bounds(topic)[1] == 0 and side.now() < deadline:
        side.sleep(0.2)
    seen = [side.bounds(topic)]
    if then == "offsets":
        at, metadata = [TopicPartition(topic, 0, 1)], member.consumer_group_metadata()
        seen += [told(lambda: producer.send_offsets_to_transaction(at, metadata, PATIENCE_S))]
    elif then == "produce":
        producer.produce(topic, b"later", partition=0)
        seen += [told(lambda: producer.flush(PATIENCE_S))]
    if then != "abort":
        seen += [told(lambda: producer.commit_transaction(PATIENCE_S))]
    seen += [told(lambda: producer.abort_transaction(PATIENCE_S)), told(producer.begin_transaction)]
    if seen[-1] == "ok":
        producer.produce(topic, b"again", partition=0)
        seen += [told(lambda: producer.commit_transaction(PATIENCE_S))]
    return [*seen, side.read(topic, "read_committed", int(seen[-1] == "ok"))]


PROGRAMS: dict[str, Callable[[Side], Any]] = {
    "records and markers": records_and_markers,
    "an empty transaction": an_empty_transaction,
    "calls out of order": calls_out_of_order,
    **{
        f"an older producer, {what}": lambda side, what=what: an_older_producer(side, what)
        for what in ("nothing", "records", "more", "offsets", "abort")
    },
    **{
        f"a first call of an older producer, {what}": lambda side, what=what: a_first_call_of_an_older_producer(
            side, what
        )
        for what in ("produce", "offsets")
    },
    **{
        f"a transaction that times out, {then}": lambda side, then=then: a_transaction_that_times_out(side, then)
        for then in ("commit", "abort", "offsets", "produce")
    },
    "offsets with notes": groups.offsets_with_notes,
    "a former generation": groups.a_former_generation,
    "a former member, left": lambda side: groups.a_former_member(side, "left"),
    "a former member, away": lambda side: groups.a_former_member(side, "away"),
    "a hand-over, cooperative": lambda side: groups.a_hand_over(side, eager=False),
    "a hand-over, eager": lambda side: groups.a_hand_over(side, eager=True),
    "a partition assigned and sought": groups.a_partition_assigned_and_sought,
    "deleted records": groups.deleted_records,
}
