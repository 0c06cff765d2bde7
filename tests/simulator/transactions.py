"""The transaction coordinator: epochs, fencing, time-outs, and the two phases of an end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from tests.simulator.errors import Retry, fenced, plain
from tests.simulator.log import Entry, Log, Transaction

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster


@dataclass
class Registration:
    """What is known of a transactional.id; `state` is empty, open, preparing, committed or aborted."""

    timeout_s: float
    epoch: int = -1
    state: str = "empty"
    commits: bool = False
    transaction: Transaction | None = None


class Coordinator:
    """Of all transactional.ids.

    Args:
        cluster: has the clock.
        marker_delay_s: from the decision to end a transaction to the markers in the logs.
    """

    def __init__(self, cluster: Cluster, marker_delay_s: float) -> None:
        self._cluster = cluster
        self._marker_delay_s = marker_delay_s
        self.registered: dict[str, Registration] = {}

    def init(self, name: str, timeout_s: float) -> int:
        """A new epoch; what its predecessor left open is aborted first."""
        found = self.registered.setdefault(name, Registration(timeout_s))
        if found.state == "preparing":
            raise Retry
        if found.state == "open":
            found.epoch += 1
            self._prepare(found, commit=False)
            if found.state == "preparing":
                raise Retry
        found.epoch += 1
        found.timeout_s, found.state = timeout_s, "empty"
        return found.epoch

    def produce(self, name: str, epoch: int, records: Iterable[tuple[Log, Entry]], known: set[Log]) -> None:
        """Add records to the open transaction.

        Args:
            name: transactional.id.
            epoch: of the producer.
            records: where they go.
            known: logs that the producer believes to be part of its transaction; those written to are added.
        """
        found = self._begin(name, epoch)
        transaction = found.transaction
        assert transaction is not None
        for log, entry in records:
            if log in known and log not in transaction.logs:  # the broker verifies partitions (rule 8)
                raise plain(KafkaError.INVALID_TXN_STATE, "the partition is not part of the transaction")
            log.append(entry._replace(transaction=transaction))
            known.add(log)

    def add_offsets(self, name: str, epoch: int, group: Any) -> Transaction:
        """Make a group part of the open transaction."""
        transaction = self._begin(name, epoch).transaction
        assert transaction is not None
        transaction.groups.add(group)
        return transaction

    def end(self, name: str, epoch: int, commit: bool) -> None:
        """Decide a transaction; the same decision twice is one."""
        found = self._known(name, epoch)
        if found.state == "open":
            self._prepare(found, commit)
        elif found.state == "preparing" and found.commits == commit:
            raise Retry
        elif found.state != ("committed" if commit else "aborted"):
            raise plain(KafkaError.INVALID_TXN_STATE, f"the transaction is {found.state}")

    def next_expiry(self) -> float:
        """When the next open transaction times out."""
        due = [
            f.transaction.began + f.timeout_s for f in self.registered.values() if f.state == "open" and f.transaction
        ]
        return min(due, default=float("inf"))

    def expire(self) -> None:
        """Abort what has been open for too long, and fence its producer."""
        for name, found in self.registered.items():
            if found.state != "open" or found.transaction is None:
                continue
            if found.transaction.began + found.timeout_s <= self._cluster.now:
                self._cluster.note("broker", f"transaction of {name} timed out")
                found.epoch += 1
                self._prepare(found, commit=False)

    def _known(self, name: str, epoch: int) -> Registration:
        found = self.registered[name]
        if epoch != found.epoch:
            raise fenced()
        return found

    def _begin(self, name: str, epoch: int) -> Registration:
        found = self._known(name, epoch)
        if found.state == "preparing":
            raise Retry
        if found.state != "open":
            found.state, found.transaction = "open", Transaction(name, self._cluster.now)
        return found

    def _prepare(self, found: Registration, commit: bool) -> None:
        found.state, found.commits = "preparing", commit
        if commit and found.transaction is not None:
            found.transaction.status = "committing"
        if self._marker_delay_s:
            self._cluster.at(self._cluster.now + self._marker_delay_s, lambda: self._complete(found))
        else:
            self._complete(found)

    def _complete(self, found: Registration) -> None:
        transaction = found.transaction
        assert transaction is not None
        transaction.status = found.state = "committed" if found.commits else "aborted"
        found.transaction = None
        for log in transaction.logs:
            log.settle(transaction)
        for group in transaction.groups:
            group.settle(transaction)
        self._cluster.note("broker", f"transaction of {transaction.name} {transaction.status}")
