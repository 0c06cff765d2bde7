"""A TCP proxy before a broker that knows Kafka's framing, and so can lose one reply and let the next one pass.

    with Proxy(upstream_port) as proxy:
        proxy.add("drop", Api.EndTxn)

A request is `size, api_key, api_version, correlation_id, ...`, a reply `size, correlation_id, ...`: whatever else is
in them is passed on unread. Each connection has two threads, one for each direction.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Api(IntEnum):
    """The requests of a worker, by Kafka's numbers."""

    Produce = 0
    Fetch = 1
    ListOffsets = 2
    Metadata = 3
    OffsetFetch = 9
    FindCoordinator = 10
    JoinGroup = 11
    Heartbeat = 12
    LeaveGroup = 13
    SyncGroup = 14
    InitProducerId = 22
    AddPartitionsToTxn = 24
    AddOffsetsToTxn = 25
    EndTxn = 26
    TxnOffsetCommit = 28
    ConsumerGroupHeartbeat = 68


Action = Literal["drop", "delay", "cut-before", "cut-after"]


@dataclass
class Rule:
    """What happens to requests of some kinds, until it has happened often enough.

    Attributes:
        action: "drop": the broker gets the request, its reply is swallowed. "delay": the reply comes `seconds` late,
            and with it all replies behind it. "cut-before": the connection is cut and the broker never hears of the
            request. "cut-after": the broker gets the request, and the connection is cut when it answers.
        apis: the kinds.
        times: how often; None is always.
        seconds: of a delay.
        fired: how often it has happened.
    """

    action: Action
    apis: tuple[Api, ...]
    times: int | None = 1
    seconds: float = 0.0
    fired: int = 0


class Proxy:
    """Listens on a port of its own for as long as it is open.

    Attributes:
        port: to connect to.
        upstream: port of the broker on this machine; set it before the first connection.
        seen: requests so far by kind, the kinds that are not in `Api` by number.
    """

    def __init__(self, upstream: int = 0) -> None:
        self.upstream = upstream
        self.seen: Counter[int] = Counter()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._silent_until = 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, action: Action, *apis: Api, times: int | None = 1, seconds: float = 0.0) -> Rule:
        """Put a rule in and return it; the first that fits a request is taken."""
        rule = Rule(action, apis, times, seconds)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Take all rules out."""
        with self._lock:
            self._rules.clear()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def black_hole(self, seconds: float) -> None:
        """Pass nothing on for so long, in neither direction; connections stay open, as behind a dead switch."""
        self._silent_until = time.monotonic() + seconds

    def close(self) -> None:
        """Stop listening and cut everything."""
        self._silent_until = 0.0
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        self.cut()

    def pause(self) -> None:
        """Wait until the black hole is over."""
        while (left := self._silent_until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def rule_for(self, api: int) -> Rule | None:
        """The rule that a request falls under; counts as having happened."""
        with self._lock:
            self.seen[api] += 1
            for rule in self._rules:
                if api in rule.apis and (rule.times is None or rule.fired < rule.times):
                    rule.fired += 1
                    return rule
        return None

    def forget(self, connection: _Connection) -> None:
        """A connection is gone."""
        with self._lock:
            self._connections.discard(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # closed
            # In a thread of its own: a frozen broker, whose queue of connections is full, must not keep the others.
            threading.Thread(target=self._connect, args=(client,), name="proxied", daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        broker: socket.socket | None = None
        try:
            broker = socket.create_connection(("127.0.0.1", self.upstream), timeout=5)
            if broker.getsockname() == broker.getpeername():  # a port that nobody listens on has connected to itself
                raise ConnectionRefusedError
        except OSError:
            if broker is not None:
                broker.close()
            client.close()  # the broker is away: as if nobody listened here
            return
        broker.settimeout(None)
        connection = _Connection(self, client, broker)
        with self._lock:
            self._connections.add(connection)
        connection.run()


class _Connection:
    """One client's connection and the one to the broker that belongs to it."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._broker = client, broker
        self._awaited: dict[int, Rule] = {}  # correlation id of the requests whose replies have a rule
        self._directions = threading.Semaphore(1)  # the second of the two to end closes the sockets
        for one in (client, broker):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Pass on what comes until one end is gone."""
        threading.Thread(target=self._guarded, args=(self._replies,), name="proxied", daemon=True).start()
        self._guarded(self._requests)

    def close(self) -> None:
        """Cut both ends."""
        for one in (self._client, self._broker):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _guarded(self, target: object) -> None:
        try:
            target()  # type: ignore[operator]
        except (OSError, struct.error):
            pass  # one end is gone, and the other follows
        finally:
            self.close()
            self._proxy.forget(self)
            if not self._directions.acquire(blocking=False):
                self._client.close()
                self._broker.close()

    def _requests(self) -> None:
        while (frame := _frame(self._client)) is not None:
            api, _, correlation = struct.unpack_from(">hhi", frame, 4)
            self._proxy.pause()
            rule = self._proxy.rule_for(api)
            if rule is not None:
                if rule.action == "cut-before":
                    return
                self._awaited[correlation] = rule
            self._broker.sendall(frame)

    def _replies(self) -> None:
        while (frame := _frame(self._broker)) is not None:
            (correlation,) = struct.unpack_from(">i", frame, 4)
            rule = self._awaited.pop(correlation, None)
            if rule is not None:
                if rule.action == "drop":
                    continue
                if rule.action == "cut-after":
                    return
                time.sleep(rule.seconds)
            self._proxy.pause()
            self._client.sendall(frame)


def _frame(source: socket.socket) -> bytes | None:
    """One whole frame with its size, or None at the end."""
    head = _exactly(source, 4)
    if head is None:
        return None
    body = _exactly(source, struct.unpack(">i", head)[0])
    return None if body is None else head + body


def _exactly(source: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        piece = source.recv(min(size - len(received), 1 << 20))
        if not piece:
            return None
        received += piece
    return bytes(received)
