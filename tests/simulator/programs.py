"""Small programs of client calls, and what a client sees of them: the contract between the simulator and Kafka.

A program is given a `Side`, which has the classes of confluent_kafka or those of the simulator, and returns plain
values: offsets, error codes with their flags, callbacks in their order. The two sides must return the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

SESSION_MS = 2_000
PATIENCE_S = 30.0
COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}
EAGER = {"partition.assignment.strategy": "range"}


@dataclass(frozen=True)
class Side:
    """One implementation of the client and its broker.

    Attributes:
        consumer, producer, admin: classes with confluent_kafka's constructors.
        conf: properties of every client.
        topic: makes a topic with so many partitions and returns its name.
        unique: makes a name for a group or a transactional.id.
        now: seconds of the side's clock; calls that wait let it pass.
        sleep: lets it pass without a call.
        members: of groups, to be closed at the end.
    """

    consumer: Callable[..., Any]
    producer: Callable[..., Any]
    admin: Callable[..., Any]
    conf: dict[str, str]
    topic: Callable[[int], str]
    unique: Callable[[str], str]
    now: Callable[[], float]
    sleep: Callable[[float], None]
    members: list[Any] = field(default_factory=list)

    def observe(self, program: str) -> Any:
        """Run a program and close what it left open: a client that is just forgotten may wait for its callbacks."""
        try:
            return PROGRAMS[program](self)
        finally:
            for consumer in self.members:
                consumer.close()

    def transactional(self, name: str, **conf: Any) -> Any:
        """A producer that has registered its transactional.id."""
        producer = self.producer({**self.conf, "transactional.id": name, "linger.ms": 0, **conf})
        producer.init_transactions(PATIENCE_S)
        return producer

    def reader(self, topic: str, isolation: str, partitions: int = 1, begin: int = 0) -> Any:
        """A consumer that is assigned from an offset on, and belongs to no group."""
        consumer = self.consumer(
            {
                **self.conf,
                "group.id": self.unique("reader"),
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(topic, partition, begin) for partition in range(partitions)])
        return consumer

    def member(self, topic: str, group: str, name: str, seen: list[Any], **conf: Any) -> Any:
        """A member of a group that notes its callbacks and answers them as `worker.kafka.Source` does."""
        merged = {**COOPERATIVE, "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 200, **conf}
        consumer = self.consumer(
            {**self.conf, "group.id": group, "auto.offset.reset": "error", "enable.auto.commit": False, **merged}
        )
        incremental = "cooperative" in merged["partition.assignment.strategy"]

        def note(what: str, found: Sequence[TopicPartition]) -> None:
            seen.append((name, what, sorted(entry.partition for entry in found)))

        def on_assign(client: Any, found: Sequence[TopicPartition]) -> None:
            note("assign", found)
            client.incremental_assign([]) if incremental else client.assign([])

        def on_revoke(client: Any, found: Sequence[TopicPartition]) -> None:
            note("revoke", found)
            client.incremental_unassign([]) if incremental else client.unassign()

        def on_lost(client: Any, found: Sequence[TopicPartition]) -> None:
            note("lost", found)
            client.incremental_unassign([]) if incremental else client.unassign()

        consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)
        self.members.append(consumer)
        return consumer

    def poll_until(self, condition: Callable[[], bool], *consumers: Any) -> list[Any]:
        """Serve consumers until a condition holds; returns what they got."""
        deadline, got = self.now() + PATIENCE_S, []
        while not condition():
            assert self.now() < deadline, "the condition never came to hold"
            for consumer in consumers:
                got += consumer.consume(10, 0.05)
        return got

    def read(self, topic: str, isolation: str, wanted: int, begin: int = 0) -> list[tuple[int, str]]:
        """So many records with their offsets, and those that follow at once."""
        reader, got = self.reader(topic, isolation, begin=begin), []
        deadline = self.now() + PATIENCE_S
        while len(got) < wanted and self.now() < deadline:
            got += reader.consume(100, 0.2)
        got += reader.consume(100, 0.5)
        reader.close()
        return [(m.offset(), m.value().decode()) if m.error() is None else (-1, m.error().name()) for m in got]

    def bounds(self, topic: str) -> tuple[int, ...]:
        """Log start, last stable offset and high watermark."""
        admin, where = self.admin(self.conf), TopicPartition(topic, 0)
        asked = (
            (OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED),
            (OffsetSpec.latest(), IsolationLevel.READ_COMMITTED),
            (OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED),
        )
        return tuple(
            admin.list_offsets({where: spec}, isolation_level=level, request_timeout=10.0)[where].result().offset
            for spec, level in asked
        )


def told(call: Callable[[], Any]) -> str:
    """What a call says: "ok", or the error with its flags."""
    try:
        call()
    except KafkaException as fault:
        error = fault.args[0]
        flags = {"fatal": error.fatal(), "retriable": error.retriable(), "abort": error.txn_requires_abort()}
        return " ".join([error.name(), *(name for name, there in flags.items() if there)])
    return "ok"


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
    side.poll_until(lambda: calls.count(("a", "assign", [])) == 2, first, second)
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
    ends = ("a", "assign", [0]) if eager else ("a", "assign", [])
    side.poll_until(lambda: any(name == "b" and found for name, _, found in calls), first, second)
    side.poll_until(lambda: calls.count(ends) == (1 if eager else 2), first, second)
    # Which of the partitions goes is the assignor's affair.
    came = {name: [(what, len(found)) for who, what, found in calls if who == name] for name in "ab"}
    moved = [p for name, what, found in calls if name == "b" and what == "assign" for p in found]
    del calls[:]
    second.close()
    closed = [(name, what, found == moved) for name, what, found in calls]
    wanted = 2 if eager else 1
    side.poll_until(lambda: sum(len(f) for n, w, f in calls if n == "a" and w == "assign") == wanted, first)
    return [came, closed, [(what, len(found)) for name, what, found in calls if name == "a"]]


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
    "offsets with notes": offsets_with_notes,
    "a former generation": a_former_generation,
    "a former member, left": lambda side: a_former_member(side, "left"),
    "a former member, away": lambda side: a_former_member(side, "away"),
    "a hand-over, cooperative": lambda side: a_hand_over(side, eager=False),
    "a hand-over, eager": lambda side: a_hand_over(side, eager=True),
    "a partition assigned and sought": a_partition_assigned_and_sought,
    "deleted records": deleted_records,
}
