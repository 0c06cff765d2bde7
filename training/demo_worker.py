"""`cellstream run` as a child process of the demo, from its start to its end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import FatalFault
from worker.settings.sources import PREFIX

STARTUP_S = 120.0
STOP_S = 3.0  # its checkpoints are of no use to anybody afterwards
TAIL_LINES = 15


class DemoWorker:
    """A worker on the demo's broker; `close` returns when its process is gone.

    Args:
        flags: of `cellstream run`.
        log: file for what it writes.
    """

    def __init__(self, flags: list[str], log: Path) -> None:
        self.log = log
        self._port: int | None = None
        # Settings of a real deployment in the environment must not reach the demo's worker.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        command = [sys.executable, "-m", "training.tethered", "run", *flags, "--metrics-port", "0"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C reaches the demo alone, which then stops the worker in order.
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when the worker has its partitions.

        Raises:
            FatalFault: it ended, or is not ready after `STARTUP_S`; with the end of its log.
        """
        deadline = time.monotonic() + STARTUP_S
        while not self._ready():
            self.verify()
            if time.monotonic() > deadline:
                raise FatalFault(f"the worker is not ready after {STARTUP_S:.0f} s; its log ends:\n{self._tail()}")
            time.sleep(0.1)

    def verify(self) -> None:
        """See that the worker lives.

        Raises:
            FatalFault: it ended; with the end of its log.
        """
        code = self._process.poll()
        if code is not None:
            raise FatalFault(f"the worker ended with exit code {code}; its log ends:\n{self._tail()}")

    def close(self) -> None:
        """Stop the worker in order, or after `STOP_S` at once; a Ctrl-C meanwhile changes nothing."""
        with _uninterrupted():
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _ready(self) -> bool:
        """Whether /ready says so; the port is in the log once the server runs."""
        if self._port is None:
            found = re.search(rb"http://127\.0\.0\.1:(\d+)/metrics", self.log.read_bytes())
            if found is None:
                return False
            self._port = int(found[1])
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore signals that ask to stop while what they ask for is being done, in bounded time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
