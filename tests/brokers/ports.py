"""Ports on loopback for brokers and others that tests start."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from random import SystemRandom

# Where ports are looked for: above those that services are known by, where there is room for many.
LEAST_PORT, ENOUGH_PORTS = 15_000, 2_000


def free_ports(count: int) -> list[int]:
    """Distinct ports on loopback that nobody listened on a moment ago, and that no connection is given by chance.

    Outside of the range from which the system takes the ports of outgoing connections: a client that tries to reach a
    dead broker could otherwise be given the broker's own port, connect to itself, and keep the broker from coming back.
    """
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().randrange(*_never_outgoing())  # the tests' own seed would give all brokers the same
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _never_outgoing() -> tuple[int, int]:
    """First port of the range, and the one behind its last."""
    with contextlib.suppress(OSError):
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        if low > LEAST_PORT + ENOUGH_PORTS:
            return LEAST_PORT, low
        if high + ENOUGH_PORTS < 65536:
            return high + 1, 65536
    return LEAST_PORT, 32768  # Linux' own default


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
