"""The simulated Consumer: a member of a group, and a reader of logs.

Heartbeats and joining happen in the background, whether the application polls or not; callbacks wait in a queue until
`consume` or `close` serves them, and the member joins again only when they were served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.simulator.admin import ask_topic
from tests.simulator.errors import TimedOut, plain, timed_out
from tests.simulator.host import Host

NOWHERE = -1001
STEP_S = 0.2
MOMENT_S = 0.001
CALL_S = 1e-5  # no call takes no time: a loop that polls without waiting must not stand still
Callbacks = Mapping[str, Callable[[Any, list[TopicPartition]], None]]


class SimConsumer:
    """confluent_kafka's Consumer, as far as the worker and the programs use it.

    Args:
        host: the process it lives in.
        conf: properties; those of the group, of isolation and of time-outs are obeyed.
    """

    def __init__(self, host: Host, conf: Mapping[str, Any], **_: Any) -> None:
        self._host = host
        self._cluster = host.cluster
        self._group = host.cluster.group(str(conf.get("group.id", "none")))
        self._stable = conf.get("isolation.level", "read_committed") == "read_committed"
        self._session_s = int(conf.get("session.timeout.ms", 45_000)) / 1000
        self._max_poll_s = int(conf.get("max.poll.interval.ms", 300_000)) / 1000
        self._eager = "cooperative" not in str(conf.get("partition.assignment.strategy", "range"))
        self._topic: str | None = None
        self._callbacks: Callbacks = {}
        self._member: str | None = None
        self._generation = -1
        self._owned: frozenset[int] = frozenset()
        self._queued: deque[tuple[str, frozenset[int]]] = deque()
        self._rejoin = False
        self._errors: list[Message] = []
        self._polled_at = self._cluster.now
        self._positions: dict[tuple[str, int], int | None] = {}  # None: out of range, waits to be assigned anew
        self._consumed: dict[tuple[str, int], int] = {}
        self._former: set[tuple[str, int]] = set()
        self._closed = False
        self._cluster.clients.append(self)

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Join the group, in the background."""
        [self._topic] = topics
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Run callbacks, then give messages; waits at most so long for the first."""
        self._host.point("consume")
        self._cluster.advance(CALL_S)
        deadline = self._cluster.now + timeout
        while True:
            self._polled_at = self._cluster.now
            self.background()
            self._serve()
            messages, self._errors = [*self._errors, *self._fetch(num_messages)], []
            left = deadline - self._cluster.now
            if messages or left <= 1e-9:
                return messages
            self._cluster.advance(min(STEP_S, left))

    def close(self) -> None:
        """Revoke what is assigned, leave the group."""
        if self._closed:
            return
        self._host.point("before close")
        self.background()
        self._queued.clear()
        if self._owned:
            self._queued.append(("revoke", self._owned))
            self._serve()
        self._closed = True
        self._cluster.clients.remove(self)
        if self._member is not None and self._host.reaches:
            self._group.leave(self._member)
            self._host.point("after close")

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these and no others."""
        self._former |= set(self._positions)
        self._positions = {(p.topic, p.partition): p.offset for p in partitions}
        self._consumed.clear()

    def unassign(self) -> None:
        """Fetch nothing."""
        self.assign([])

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these, too."""
        for entry in partitions:
            where = (entry.topic, entry.partition)
            if where in self._positions:
                raise plain(KafkaError._CONFLICT, f"{where} is assigned already")
            self._positions[where] = entry.offset
            self._consumed.pop(where, None)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these no longer."""
        for entry in partitions:
            where = (entry.topic, entry.partition)
            if where not in self._positions:
                raise plain(KafkaError._INVALID_ARG, f"{where} is not assigned")
            del self._positions[where]
            self._former.add(where)

    def seek(self, partition: TopicPartition) -> None:
        """Go on elsewhere."""
        where = (partition.topic, partition.partition)
        if where not in self._positions:
            code = KafkaError._STATE if where in self._former else KafkaError._UNKNOWN_PARTITION
            raise plain(code, f"{where} is not assigned")
        self._positions[where] = partition.offset
        self._consumed.pop(where, None)

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Behind the last message that was given; nowhere before the first since the assignment."""
        return [
            TopicPartition(p.topic, p.partition, self._consumed.get((p.topic, p.partition), NOWHERE))
            for p in partitions
        ]

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The group's offsets with their metadata."""
        wanted = [(p.topic, p.partition) for p in partitions]
        found = self._ask("committed", lambda: self._group.fetch(wanted, self._stable), timeout)
        return [
            TopicPartition(*where, *filter(lambda told: told != "", found.get(where, (NOWHERE,)))) for where in wanted
        ]

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        """Commit outside a transaction."""
        positions = {(p.topic, p.partition): (p.offset, p.metadata or "") for p in offsets}
        self._ask("commit", lambda: self._group.commit(self._member, self._generation, positions), 60.0)
        return list(offsets)

    def list_topics(self, topic: str, timeout: float = -1) -> Any:
        """A topic and its partitions."""
        return ask_topic(self._host, topic, timeout)

    def consumer_group_metadata(self) -> tuple[str, str | None, int]:
        """Group, member and generation, as the background knows them."""
        return self._group.name, self._member, self._generation

    def get_watermark_offsets(self, partition: TopicPartition, cached: bool = False) -> tuple[int, int] | None:
        """Begin and end of a log."""
        log = self._cluster.topics[partition.topic][partition.partition]
        return log.start, log.end

    def background(self) -> None:
        """Heartbeat, and what its answer asks for."""
        if self._topic is None or self._closed or not self._host.beats:
            return
        if self._member is not None and self._cluster.now - self._polled_at > self._max_poll_s:
            self._errors.append(_error(KafkaError._MAX_POLL_EXCEEDED))
            self._group.leave(self._member)
            self._lose()
        if self._member is not None:
            try:
                self._heartbeat(self._member)
            except KafkaException:
                self._lose()
        if self._member is None and not self._queued and not self._owned:
            self._join()

    def _heartbeat(self, name: str) -> None:
        member = self._group.beat(name)
        if self._queued:
            return  # joins again when the application has answered
        if self._group.preparing and not member.joined:
            if self._eager and self._owned:
                self._queued.append(("revoke", self._owned))
            else:
                self._join()
        elif not self._group.preparing and self._generation != self._group.generation:
            self._generation = self._group.generation
            self._take(member.assigned)
        elif self._rejoin:
            self._join()

    def _take(self, assigned: frozenset[int]) -> None:
        """An assignment has come: what goes and what comes, each a callback, even of nothing."""
        if self._eager:
            self._queued.append(("assign", assigned))
            return
        if revoked := self._owned - assigned:
            self._queued.append(("revoke", revoked))
            self._rejoin = True
        self._queued.append(("assign", assigned - self._owned))

    def _join(self) -> None:
        self._rejoin = False
        assert self._topic is not None
        owned = frozenset() if self._eager else self._owned
        self._member = self._group.join(
            self._member, self._topic, self._session_s, self._max_poll_s, self._eager, owned
        )
        member = self._group.members[self._member]
        if not self._group.preparing:  # the last one to join learns at once what it got
            self._generation = self._group.generation
            self._take(member.assigned)

    def _lose(self) -> None:
        """The group has given this member up; what was not called back for is lost."""
        self._member, self._rejoin = None, False
        coming = frozenset().union(*(found for what, found in self._queued if what == "assign"))
        going = frozenset().union(*(found for what, found in self._queued if what != "assign"))
        if lost := (self._owned | coming) - going:
            self._queued.append(("lost", lost))

    def _serve(self) -> None:
        while self._queued:
            what, partitions = self._queued[0]
            assert self._topic is not None
            self._cluster.advance(MOMENT_S)  # the others hear of it, too
            self._host.note(f"{what} {sorted(partitions)}")
            self._callbacks[what](self, [TopicPartition(self._topic, p) for p in sorted(partitions)])
            self._queued.popleft()
            self._owned = self._owned | partitions if what == "assign" else self._owned - partitions
            self.background()

    def _fetch(self, count: int) -> list[Message]:
        messages: list[Message] = []
        if not self._host.reaches:
            return messages
        for where, position in list(self._positions.items()):
            if position is None:
                continue
            log = self._cluster.topics[where[0]][where[1]]
            if not log.start <= position <= log.end:
                self._positions[where] = None
                messages.append(_error(KafkaError._AUTO_OFFSET_RESET, *where))
                continue
            found, self._positions[where] = log.read(position, count - len(messages), self._stable)
            messages += (
                Message(
                    topic=where[0],
                    partition=where[1],
                    offset=offset,
                    key=entry.key,
                    value=entry.value,
                    headers=entry.headers,
                    timestamp=(1 if entry.time >= 0 else 0, entry.time),
                    leader_epoch=0,
                )
                for offset, entry in found
            )
            if found:
                self._consumed[where] = found[-1][0] + 1
                # Whoever gave something stands last in the next round.
                self._positions[where] = self._positions.pop(where)
            if len(messages) >= count:
                break
        return messages

    def _ask(self, api: str, apply: Callable[[], Any], timeout_s: float) -> Any:
        try:
            return self._host.request(api, apply, timeout_s if timeout_s >= 0 else 60.0)
        except TimedOut:
            raise timed_out() from None


def _error(code: int, topic: str | None = None, partition: int = -1) -> Message:
    return Message(topic=topic, partition=partition, error=KafkaError(code))
