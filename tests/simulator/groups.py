"""The group coordinator: members, generations, assignments, and committed offsets with their metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from tests.simulator.errors import Retry, plain
from tests.simulator.log import Transaction

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster

Where = tuple[str, int]  # topic and partition
Offset = tuple[int, str]  # offset and metadata


@dataclass(kw_only=True)
class Member:
    """One member as the coordinator knows it."""

    name: str
    topic: str
    session_s: float
    rebalance_s: float
    eager: bool
    owned: frozenset[int]
    deadline: float
    joined: bool = True
    assigned: frozenset[int] = field(default_factory=frozenset)


class Group:
    """A classic group; every member subscribes to one topic.

    Args:
        cluster: has the clock and the topics.
        name: for the trace.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name
        self.generation = 0
        self.preparing = False
        self.members: dict[str, Member] = {}
        self.offsets: dict[Where, Offset] = {}
        self.regressions: list[str] = []
        self._pending: dict[Where, dict[Transaction, Offset]] = {}
        self._numbers = count(1)
        self._rebalance_by = float("inf")

    def join(
        self, name: str | None, topic: str, session_s: float, rebalance_s: float, eager: bool, owned: frozenset[int]
    ) -> str:
        """Join, or join again, with the partitions that are kept for now; returns the member ID."""
        if name is None:
            name = f"{self.name}-{next(self._numbers)}"
        elif name not in self.members:
            raise plain(KafkaError.UNKNOWN_MEMBER_ID)
        self.members[name] = Member(
            name=name,
            topic=topic,
            session_s=session_s,
            rebalance_s=rebalance_s,
            eager=eager,
            owned=owned,
            deadline=self._cluster.now + session_s,
        )
        self._prepare()
        self.members[name].joined = True
        self._complete_if_all_joined()
        return name

    def leave(self, name: str) -> None:
        """Give up membership."""
        if self.members.pop(name, None) is not None:
            self._prepare()
            self._complete_if_all_joined()

    def beat(self, name: str) -> Member:
        """A heartbeat."""
        if name not in self.members:
            raise plain(KafkaError.UNKNOWN_MEMBER_ID)
        member = self.members[name]
        member.deadline = self._cluster.now + member.session_s
        return member

    def commit(self, name: str | None, generation: int, offsets: dict[Where, Offset]) -> None:
        """Commit offsets outside a transaction."""
        self._validate(name, generation)
        for where, offset in offsets.items():
            self._set(where, offset)

    def add(self, transaction: Transaction, name: str | None, generation: int, offsets: dict[Where, Offset]) -> None:
        """Make offsets part of a transaction."""
        self._validate(name, generation)
        for where, offset in offsets.items():
            self._pending.setdefault(where, {})[transaction] = offset

    def settle(self, transaction: Transaction) -> None:
        """A transaction has ended: its offsets are valid now, or void."""
        for where, pending in self._pending.items():
            offset = pending.pop(transaction, None)
            if offset is not None and transaction.status == "committed":
                self._set(where, offset)

    def fetch(self, wanted: Sequence[Where], stable: bool) -> dict[Where, Offset]:
        """Committed offsets; one that waits in an open transaction has to be waited for."""
        if stable and any(self._pending.get(where) for where in wanted):
            raise Retry
        return {where: self.offsets[where] for where in wanted if where in self.offsets}

    def decided(self, where: Where) -> int:
        """The committed offset, or that of a transaction whose commit is decided; -1 when there is none."""
        coming = [o[0] for t, o in self._pending.get(where, {}).items() if t.status == "committing"]
        return max([*coming, self.offsets.get(where, (-1, ""))[0]])

    def next_expiry(self) -> float:
        """When the next member is given up."""
        due = [member.deadline for member in self.members.values()]
        return min([*due, self._rebalance_by], default=float("inf"))

    def expire(self) -> None:
        """Give up members that were not heard of, or did not join a rebalance in time."""
        now = self._cluster.now
        late = self._rebalance_by <= now
        gone = [m for m in self.members.values() if m.deadline <= now or (late and self.preparing and not m.joined)]
        for member in gone:
            self._cluster.note("broker", f"member {member.name} expired")
            del self.members[member.name]
        if gone:
            self._prepare()
        if late:
            self._rebalance_by = float("inf")
        self._complete_if_all_joined()

    def _validate(self, name: str | None, generation: int) -> None:
        if name not in self.members:
            raise plain(KafkaError.UNKNOWN_MEMBER_ID)
        if generation != self.generation:
            raise plain(KafkaError.ILLEGAL_GENERATION)

    def _set(self, where: Where, offset: Offset) -> None:
        former = self.offsets.get(where)
        if former is not None and offset[0] < former[0]:
            self.regressions.append(f"{where[0]}[{where[1]}]: committed offset {former[0]} went back to {offset[0]}")
        self.offsets[where] = offset

    def _prepare(self) -> None:
        if not self.preparing:
            self.preparing = True
            for member in self.members.values():
                member.joined = False
            longest = max((member.rebalance_s for member in self.members.values()), default=0.0)
            self._rebalance_by = self._cluster.now + longest

    def _complete_if_all_joined(self) -> None:
        if not self.preparing or not all(member.joined for member in self.members.values()):
            return
        self.preparing, self._rebalance_by = False, float("inf")
        self.generation += 1
        members = list(self.members.values())
        if not members:
            return
        partitions = range(len(self._cluster.topics[members[0].topic]))
        if members[0].eager:
            for place, member in enumerate(members):
                member.assigned = frozenset(p for p in partitions if p * len(members) // len(partitions) == place)
        else:
            _assign_sticky(members, partitions)
        shares = {member.name: sorted(member.assigned) for member in members}
        self._cluster.note("broker", f"generation {self.generation}: {shares}")


def _assign_sticky(members: list[Member], partitions: Sequence[int]) -> None:
    """Balance with few moves; what must move is given to nobody until its owner has joined without it."""
    least, more = divmod(len(partitions), len(members))
    target: dict[str, set[int]] = {member.name: set(sorted(member.owned)[:least]) for member in members}
    for member in members:
        if more and len(member.owned) > least:
            target[member.name] = set(sorted(member.owned)[: least + 1])
            more -= 1
    free = [p for p in partitions if not any(p in share for share in target.values())]
    for partition in free:
        fewest = min(target, key=lambda name: len(target[name]))
        target[fewest].add(partition)
    for member in members:
        others = [other.owned for other in members if other is not member]
        member.assigned = frozenset(p for p in target[member.name] if not any(p in owned for owned in others))
