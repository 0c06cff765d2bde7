"""A child process in a process group of its own, which nothing leaves running.

It is ended by `stop` or `kill`, at the latest when this process ends: in order (atexit), by Ctrl-C, or by a
signal that nobody can catch. For the last a second, tiny child waits on a pipe that only this process holds open:
when the pipe closes, it kills the group.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

_GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"


class Process:
    """A command that can be stopped, killed, frozen and thawed, with its output in a file.

    Args:
        command: the program and its arguments.
        log: file that receives both outputs; appended to, so that a restart continues it.
        environment: added to this process' environment.
        directory: the working directory; None is this process' own.
        keep: open file descriptors that the command inherits.
    """

    tells_where = False  # on SIGUSR1 it writes what each of its threads does into its log, and goes on

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                start_new_session=True,
                pass_fds=keep,
            )
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-c", _GUARD, str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _running.add(self)

    @property
    def pid(self) -> int:
        """Of the command, and of its process group."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal that ended it, or None while it runs."""
        return self._child.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, if it is still there."""
        if self._child.poll() is None:
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Stop the group where it stands (SIGSTOP): its connections stay open and nothing answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen group go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask the command itself to end (SIGTERM), frozen or not, and return at once."""
        if self._child.poll() is None:
            self._child.terminate()
            self.thaw()

    def wait(self, timeout_s: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout_s`.
        """
        code = self._child.wait(timeout_s)
        self._forget()
        return code

    def stop(self, timeout_s: float = 60.0) -> int:
        """End it in order, or by force after `timeout_s`, and return the exit code."""
        self.terminate()
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the group at once (`kill -9`), wait until it is gone, and return the exit code."""
        self.signal(signal.SIGKILL)
        return self.wait(timeout_s=30)

    def tail(self, characters: int = 4000) -> str:
        """The end of what it has written so far."""
        return self.log.read_text(errors="replace")[-characters:]

    def _forget(self) -> None:
        """Dismiss the guard before the process id can belong to somebody else."""
        _running.discard(self)
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


_running: weakref.WeakSet[Process] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for process in list(_running):
        process.kill()
