"""A process as its clients see it: it may be frozen or cut off, and each of its requests may meet a fault.

A request that times out has taken effect, has not, or takes effect later, when the client has long given up
(RELIABILITY rule 11); the client cannot tell which.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import KafkaException

from tests.simulator.cluster import Cluster
from tests.simulator.errors import Retry, TimedOut

ResultT = TypeVar("ResultT")
RETRY_S = 0.02


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Attributes:
        kind: lost (no effect, no answer), unanswered (effect, no answer), late (effect later, no answer), again (effect
            twice: the client sent it anew by itself), or an answer instead of an effect: retriable, abortable, fatal.
        delay_s: of a late one.
    """

    kind: str
    delay_s: float = 0.0


class Host:
    """One process on the cluster.

    Args:
        cluster: its broker.
        name: for the trace.
        on_point: called before and after every effect; may raise to end the process there.
    """

    def __init__(self, cluster: Cluster, name: str, on_point: Callable[[str], None] = lambda name: None) -> None:
        self.cluster = cluster
        self.name = name
        self.frozen = False
        self.alive = True
        self.cut_until = 0.0
        self.faults: dict[str, Fault] = {}
        self.delivers_at_once = True
        self.point = on_point

    @property
    def reachable_at(self) -> float:
        """When the broker can be reached, as far as is known."""
        return max(self.cut_until, self.cluster.down_until)

    @property
    def reaches(self) -> bool:
        """Whether the broker can be reached now."""
        return self.cluster.now >= self.reachable_at

    @property
    def beats(self) -> bool:
        """Whether the client's own threads run and reach the broker."""
        return self.alive and not self.frozen and self.reaches

    def note(self, what: str) -> None:
        """A line for the trace."""
        self.cluster.note(self.name, what)

    def request(self, api: str, apply: Callable[[], ResultT], timeout_s: float) -> ResultT:
        """Make one request.

        Raises:
            TimedOut: no answer in time; what became of the request is not known.
        """
        cluster = self.cluster
        deadline = cluster.now + timeout_s
        self.point(f"before {api}")
        fault = self.faults.pop(api, None)
        if fault is not None:
            self.note(f"{api}: {fault.kind} {fault.delay_s or ''}")
            if fault.kind == "late":
                cluster.at(cluster.now + fault.delay_s, lambda: self._arrive(api, apply))
            if fault.kind in ("late", "lost"):
                self._give_up(deadline)
        result = self._answered(apply, deadline)
        if fault is not None and fault.kind == "again":
            result = self._answered(apply, deadline)
        if fault is not None and fault.kind == "unanswered":
            self._give_up(deadline)
        self.point(f"after {api}")
        return result

    def _answered(self, apply: Callable[[], ResultT], deadline: float) -> ResultT:
        while True:
            if not self.reaches:
                if self.reachable_at > deadline:
                    self._give_up(deadline)
                self.cluster.advance(self.reachable_at - self.cluster.now)
            try:
                return apply()
            except Retry:
                if self.cluster.now >= deadline:
                    raise TimedOut from None
                self.cluster.advance(min(RETRY_S, deadline - self.cluster.now))

    def _give_up(self, deadline: float) -> None:
        self.cluster.advance(max(0.0, deadline - self.cluster.now))
        raise TimedOut

    def _arrive(self, api: str, apply: Callable[[], object]) -> None:
        self.note(f"{api}: the late one arrives")
        with suppress(KafkaException, Retry):  # nobody waits for the answer
            apply()
