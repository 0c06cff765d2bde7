"""The broker and the clock: topics, coordinators, and what becomes due while simulated time passes."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

from tests.simulator.groups import Group
from tests.simulator.log import Log
from tests.simulator.transactions import Coordinator

FOREVER = float("inf")


class Background(Protocol):
    """A client's own thread."""

    def background(self) -> None:
        """Do what the client does by itself: heartbeats, joining."""


class Cluster:
    """One broker, and simulated time.

    Args:
        marker_delay_s: from the decision to end a transaction to the markers in the logs.
        trace: takes a line for each event.
    """

    def __init__(self, marker_delay_s: float = 0.0, trace: Callable[[str], None] | None = None) -> None:
        self.now = 1_000.0
        self.down_until = 0.0
        self.topics: dict[str, list[Log]] = {}
        self.groups: dict[str, Group] = {}
        self.coordinator = Coordinator(self, marker_delay_s)
        self.clients: list[Background] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._trace = trace

    def note(self, who: str, what: str) -> None:
        """A line for the trace."""
        if self._trace is not None:
            self._trace(f"{self.now - 1_000:9.3f}  {who:<10} {what}")

    def group(self, name: str) -> Group:
        """A group, made when it is first named."""
        if name not in self.groups:
            self.groups[name] = Group(self, name)
        return self.groups[name]

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (time, next(self._numbers), action))

    def advance(self, seconds: float) -> None:
        """Let time pass, doing what becomes due in its order."""
        target = self.now + seconds
        while (due := self._next_due()) <= target:
            self.now = max(self.now, due)
            self._beat()  # whoever lives has sent heartbeats until now
            while self._events and max(self._events[0][0], self.down_until) <= self.now:
                heapq.heappop(self._events)[2]()
            if self.now >= self.down_until:
                self.coordinator.expire()
                for group in self.groups.values():
                    group.expire()
            self._beat()
        self.now = max(self.now, target)
        self._beat()

    def _next_due(self) -> float:
        due = self._events[0][0] if self._events else FOREVER
        due = min(due, self.coordinator.next_expiry(), *(group.next_expiry() for group in self.groups.values()))
        return max(due, self.down_until) if due < FOREVER else due

    def _beat(self) -> None:
        for client in self.clients:
            client.background()
