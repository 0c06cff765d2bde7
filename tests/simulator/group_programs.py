"""Programs about groups, their offsets and assignments; see `programs`."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from tests.simulator.side import COOPERATIVE, EAGER, PATIENCE_S, Side, told


def offsets_with_notes(side: Side) -> Any:
    """Offsets and their metadata are there when the transaction is committed, and not before or after an abort."""
    topic, group = side.topic(2), side.unique("group")
    calls: list[Any] = []
    member = side.member(topic, group, "m", calls)
    side.poll_until(lambda: bool(calls), member)
    producer = side.transactional(side.unique("tx"))
    asked = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    # Who reads uncommitted is told the last committed offset while another one waits in a transaction.
    curious = side.consumer({**side.conf, "group.id": group, "isolation.level": "read_uncommitted"})
    seen: list[Any] = [_committed(member, asked)]
    for offset, commit in ((3, True), (5, False), (4, True)):
        producer.begin_transaction()
        position = [TopicPartition(topic, 0, offset, f"note {offset}")]
        producer.send_offsets_to_transaction(position, member.consumer_group_metadata(), PATIENCE_S)
        seen += [_committed(curious, asked), _committed(member, asked, 1.0)]
        producer.commit_transaction(PATIENCE_S) if commit else producer.abort_transaction(PATIENCE_S)
        seen += [_committed(member, asked)]
    return seen


def _committed(consumer: Any, asked: list[TopicPartition], timeout_s: float = PATIENCE_S) -> Any:
    try:
        found = consumer.committed(asked, timeout=timeout_s)
    except KafkaException as fault:
        return fault.args[0].name()
    return [(f.offset, f.metadata, f.error.name() if f.error else "") for f in found]


def a_former_generation(side: Side) -> Any:
    """Offsets sent with the proof of a former generation are refused; an abort and a fresh proof help."""
    topic, group = side.topic(2), side.unique("group")
    calls: list[Any] = []
    first = side.member(topic, group, "a", calls)
    side.poll_until(lambda: bool(calls), first)
    former = first.consumer_group_metadata()
    second = side.member(topic, group, "b", calls)
    side.poll_until(lambda: any(name == "b" and found for name, _, found in calls), first, second)
    side.poll_until(lambda: calls.count(("a", "assign", [])) >= 2, first, second)
    producer = side.transactional(side.unique("tx"))
    at = [TopicPartition(topic, 0, 7)]
    seen = []
    for proof in (former, None):
        producer.begin_transaction()
        fresh = first.consumer_group_metadata() if proof is None else proof
        said = told(lambda fresh=fresh: producer.send_offsets_to_transaction(at, fresh, PATIENCE_S))
        end = producer.commit_transaction if said == "ok" else producer.abort_transaction
        seen += [said, told(lambda end=end: end(PATIENCE_S))]
    return [*seen, _committed(first, [TopicPartition(topic, 0)])]


def a_former_member(side: Side, how: str) -> Any:
    """Offsets of a member that left, or was away too long, are refused in a transaction and outside one."""
    topic, group = side.topic(1), side.unique("group")
    calls: list[Any] = []
    first = side.member(topic, group, "a", calls, **{"max.poll.interval.ms": 2_500})
    side.poll_until(lambda: bool(calls), first)
    proof = first.consumer_group_metadata()
    second = side.member(topic, group, "b", calls)
    if how == "left":
        first.close()
    side.poll_until(lambda: ("b", "assign", [0]) in calls, second)
    producer = side.transactional(side.unique("tx"))
    at = [TopicPartition(topic, 0, 7)]
    seen = []
    proofs = [proof] if how == "left" else [proof, first.consumer_group_metadata()]
    for one in proofs:
        producer.begin_transaction()
        seen += [told(lambda one=one: producer.send_offsets_to_transaction(at, one, PATIENCE_S))]
        seen += [told(lambda: producer.produce(topic, b"more", partition=0))]
        seen += [told(lambda: producer.commit_transaction(PATIENCE_S))]
        seen += [told(lambda: producer.abort_transaction(PATIENCE_S))]
    if how == "away":
        seen += [told(lambda: first.commit(offsets=at, asynchronous=False))]
        seen += [m.error().name() for m in first.consume(10, 0.1) if m.error()]
        side.poll_until(lambda: any(name == "a" and what == "lost" for name, what, _ in calls), first, second)
    return [*seen, _committed(second, [TopicPartition(topic, 0)])]


def a_hand_over(side: Side, eager: bool) -> Any:
    """Callbacks of two members when the second comes, and when it leaves; each in its own order."""
    topic, group = side.topic(2), side.unique("group")
    calls: list[Any] = []
    strategy = EAGER if eager else COOPERATIVE
    first = side.member(topic, group, "a", calls, **strategy)
    side.poll_until(lambda: bool(calls), first)
    second = side.member(topic, group, "b", calls, **strategy)
    side.poll_until(lambda: any(name == "b" and found for name, _, found in calls), first, second)
    side.poll_until(lambda: [name for name, what, _ in calls if what == "assign"].count("a") >= 2, first, second)
    # Which of the partitions goes is the assignor's affair, and how often nothing is assigned a matter of timing.
    came = {name: [(what, len(found)) for who, what, found in calls if who == name and found] for name in "ab"}
    moved = [p for name, what, found in calls if name == "b" and what == "assign" for p in found]
    del calls[:]
    second.close()
    closed = [(name, what, found == moved) for name, what, found in calls if found]
    wanted = 2 if eager else 1
    side.poll_until(lambda: sum(len(f) for n, w, f in calls if n == "a" and w == "assign") == wanted, first)
    return [came, closed, [(what, len(found)) for name, what, found in calls if name == "a" and found]]


def a_partition_assigned_and_sought(side: Side) -> Any:
    topic = side.topic(2)
    producer = side.producer(side.conf)
    for number in range(6):
        producer.produce(topic, b"%d" % number, partition=0)
    producer.flush(PATIENCE_S)
    calls: list[Any] = []
    member = side.member(topic, side.unique("group"), "a", calls)
    side.poll_until(lambda: bool(calls), member)
    at = lambda offset: TopicPartition(topic, 0, offset)  # noqa: E731
    place = lambda: member.position([TopicPartition(topic, 0)])[0].offset  # noqa: E731
    seen: list[Any] = [told(lambda: member.seek(at(2))), told(lambda: member.incremental_assign([at(2)])), place()]
    got = side.poll_until(lambda: place() == 6, member)
    seen += [[message.offset() for message in got], told(lambda: member.incremental_assign([at(2)]))]
    seen += [told(lambda: member.seek(at(4))), place()]
    got = side.poll_until(lambda: place() == 6, member)
    seen += [[message.offset() for message in got], told(lambda: member.incremental_unassign([at(0)]))]
    return [*seen, told(lambda: member.seek(at(1)))]


def deleted_records(side: Side) -> Any:
    """A position below the log's begin, or beyond its end, is an error and never another place."""
    topic = side.topic(1)
    producer = side.producer(side.conf)
    for number in range(6):
        producer.produce(topic, b"%d" % number, partition=0)
    producer.flush(PATIENCE_S)
    admin = side.admin(side.conf)
    for future in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        future.result()
    wanted = {3: 1, 4: 2, 6: 0, 7: 1}  # begin -> how many are waited for
    return [side.bounds(topic), *(side.read(topic, "read_committed", n, begin=b) for b, n in wanted.items())]
