"""A cluster in memory and a client that fails on a script: small, real implementations behind the loop's interface.

The cluster keeps what Kafka would keep when the worker dies: the log, the committed offsets with their notes, and
the outputs of committed transactions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from worker.errors import CommitPostponed, TransientFault
from worker.kafka import Listener, Survey
from worker.records import Outcome, Position, RecordBatch


class Crash(BaseException):
    """The process dies here; nothing of ours may catch it."""


@dataclass
class Script:
    """What happens at which effect: `crash`, `abort`, or `crash_after` (it took effect, nobody learned of it).

    `stale` is a commit that meets a generation of the group which this member has not heard of; at any other effect
    it is nothing.
    """

    faults: dict[int, str]
    count: int = 0

    def effect(self, abortable: bool = True) -> str:
        self.count += 1
        fault = self.faults.get(self.count, "")
        if fault == "crash":
            raise Crash
        if fault == "abort" and abortable:
            raise TransientFault("as the script says")
        return fault


@dataclass
class Cluster:
    """One topic with its log, and what a group has committed."""

    logs: dict[int, RecordBatch]
    committed: dict[int, Position] = field(default_factory=dict)
    outputs: list[tuple[bytes, bytes]] = field(default_factory=list)
    refused: list[tuple[int, int]] = field(default_factory=list)
    low: int = 0

    def high(self, partition: int) -> int:
        offsets = self.logs[partition].offsets
        return offsets[-1] + 1 if offsets else 0

    def at_rest(self) -> bool:
        """Everything is answered and committed."""
        return all(
            partition in self.committed and self.committed[partition].offset == self.high(partition)
            for partition in self.logs
        )


class ScriptedSource:
    """The group's only member; gives records in polls of the sizes it is told, and takes partitions away at will."""

    topic = "samples"

    def __init__(self, cluster: Cluster, script: Script, sizes: Iterator[int]) -> None:
        self.cluster, self.script, self.sizes = cluster, script, sizes
        self.joined = False
        self.rebalance_every = 7  # polls
        self._assigned: set[int] = set()
        self._positions: dict[int, int] = {}
        self._listener: Listener | None = None
        self._turn = 0

    @property
    def assigned(self) -> frozenset[int]:
        return frozenset(self._assigned)

    def subscribe(self, listener: Listener) -> None:
        self._listener = listener

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        assert self._listener is not None
        self.script.effect(abortable=False)
        self._turn += 1
        if not self.joined:
            self.joined = True
            self._take(list(self.cluster.logs))
        elif self._turn % self.rebalance_every == 0:  # it takes a partition and gives it back
            partition = self._turn // self.rebalance_every % len(self.cluster.logs)
            self.rebalance([partition], lost=self._turn % 2 == 0)
        batches = []
        for partition, position in list(self._positions.items()):
            log = self.cluster.logs[partition]
            begin = sum(offset < position for offset in log.offsets)
            batch = log.slice(begin, begin + min(next(self.sizes), max_records))
            if len(batch):
                batches.append(batch)
                self._positions[partition] = batch.offsets[-1] + 1
        return batches

    def rebalance(self, partitions: list[int], lost: bool) -> None:
        assert self._listener is not None
        (self._listener.on_lost if lost else self._listener.on_revoke)(partitions)
        for partition in partitions:
            self._assigned.discard(partition)
            self._positions.pop(partition, None)
        self._take(partitions)

    def _take(self, partitions: list[int]) -> None:
        assert self._listener is not None
        self._assigned.update(partitions)
        self._listener.on_assign(partitions)

    def open(self, partition: int, offset: int) -> bool:
        self._positions[partition] = offset
        return True

    def close_partitions(self) -> None:
        self._positions.clear()

    def survey(self, partitions: Sequence[int]) -> Survey:
        self.script.effect()
        bounds = {partition: (self.cluster.low, self.cluster.high(partition)) for partition in partitions}
        return Survey(len(self.cluster.logs), dict(self.cluster.committed), bounds)

    def log_end(self, partition: int) -> int | None:
        return self.cluster.high(partition)

    def close(self) -> None:
        assert self._listener is not None
        self._listener.on_revoke(sorted(self._assigned))
        self._assigned.clear()


class ScriptedSink:
    """Transactions: events and offsets become visible together, or not at all."""

    def __init__(self, cluster: Cluster, script: Script) -> None:
        self.cluster, self.script = cluster, script
        self._open: list[Outcome] = []

    def start(self) -> None:
        self.script.effect(abortable=False)

    def produce(self, outcome: Outcome) -> None:
        self.script.effect()
        self._open.append(outcome)

    def commit(self, positions: Sequence[Position], source: object) -> None:
        fault = self.script.effect()
        if fault == "stale":
            self._open = []
            raise CommitPostponed("as the script says")
        for outcome in self._open:
            self.cluster.outputs += zip(outcome.keys, outcome.values, strict=True)
            self.cluster.refused += [(letter.partition, letter.offset) for letter in outcome.dead_letters]
        self._open = []
        for position in positions:
            before = self.cluster.committed.get(position.partition)
            assert before is None or before.offset <= position.offset, "a committed offset went back"
            self.cluster.committed[position.partition] = position
        if fault == "crash_after":
            raise Crash

    def abort(self) -> None:
        self._open = []

    def close(self) -> None:
        self._open = []
