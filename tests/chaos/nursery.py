"""Workers without the seconds of importing TensorFlow: a warm process that forks one for each request.

    with Nursery(directory) as nursery:
        process = nursery.start(["cellstream", "run", ...], log)

A worker's start costs four seconds of CPU, most of them imports, and a soak of a thousand kills cannot pay that. The
nursery imports what a worker imports, and does nothing else: no operation of TensorFlow, no client, no thread (checked
before every fork, since a lock that another thread holds would stay locked in the child for ever). The child is a
session leader of its own, has its own log, default signal handlers and the real command line, and leaves through the
interpreter's usual end: to signals, `kill -9` and exit codes it is a worker like any other.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.brokers.process import Process

READY_S = 120.0
_PR_SET_PDEATHSIG = 1


class Nursery:
    """A warm process, and the workers that were forked from it; they die with it.

    Args:
        directory: for its log.
    """

    def __init__(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._lines = ours.makefile("r")
        self._changed = threading.Condition()
        self._starting = threading.Lock()
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        self._ready = self._ended = False
        command = [sys.executable, "-m", "tests.chaos.nursery", str(theirs.fileno())]
        # OpenBLAS starts its threads at the import of numpy, before anything could be said to it.
        environment = {"OPENBLAS_NUM_THREADS": "1"}
        self.process = Process(command, directory / "nursery.log", environment, keep=(theirs.fileno(),))
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._thread.start()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Process:
        """Fork a worker: the drop-in for `Process(command, log, environment)`.

        Args:
            command: `cellstream ...`, or `python -m MODULE ...`.
            log: file that receives both outputs.
            environment: added to this process' environment; what libraries read when they are imported comes too late.
        """
        arguments = [str(part) for part in command]
        if Path(arguments[0]).name == "cellstream":
            module, rest = "worker.cli", arguments[1:]
        elif arguments[0] == sys.executable and arguments[1] == "-m":
            module, rest = arguments[2], arguments[3:]
        else:  # a program that runs `cellstream` in its own way
            return Process(command, log, environment)
        log.touch()  # it can be read as soon as this returns
        with self._starting, self._changed:  # one at a time, or an answer would be taken for another's
            count = len(self._started)
            assert self._changed.wait_for(lambda: self._ready or self._ended, READY_S), self.process.tail()
            wanted = {"module": module, "arguments": rest, "log": str(log), "environment": dict(environment or {})}
            self._send(wanted)
            there = self._changed.wait_for(lambda: len(self._started) > count or self._ended, READY_S)
            assert there, self.process.tail()
            assert not self._ended, f"the nursery has ended:\n{self.process.tail()}"
            return _Nursling(self, self._started[-1], log)

    def close(self) -> None:
        """End the nursery and all that was forked from it."""
        self.process.kill()
        self._thread.join()
        self._lines.close()
        self._socket.close()

    def code(self, pid: int, timeout_s: float = 0.0) -> int | None:
        """The exit code of a child, minus its signal, as soon as it has one."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._codes or self._ended, timeout_s)
            return self._codes.get(pid, -signal.SIGKILL if self._ended else None)

    def forget(self, pid: int) -> None:
        """Let the process id go; until then it belongs to nobody else."""
        with self._changed, contextlib.suppress(OSError):
            self._send({"forget": pid})

    def _send(self, request: object) -> None:
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # of a nursery that was killed with a request unread
            for line in self._lines:
                self._hear(json.loads(line))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _hear(self, said: dict[str, int]) -> None:
        with self._changed:
            self._ready = True
            if "started" in said:
                self._started.append(said["started"])
                self._codes.pop(said["started"], None)
            elif "ended" in said:
                self._codes[said["ended"]] = said["code"]
            self._changed.notify_all()


class _Child:
    """What `Process` asks of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid

    def poll(self) -> int | None:
        return self._nursery.code(self.pid)

    def wait(self, timeout_s: float) -> int:
        code = self._nursery.code(self.pid, timeout_s)
        if code is None:
            raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout_s)
        return code

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


class _Nursling(Process):
    """A forked worker."""

    tells_where = True

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self.log = log
        self._nursery = nursery
        self._child = _Child(nursery, pid)  # type: ignore[assignment]

    def _forget(self) -> None:
        self._nursery.forget(self.pid)


def serve(control: socket.socket) -> tuple[str, list[str]]:
    """Fork on request until the other side is gone.

    Returns:
        In a child: the module to run, and its arguments.
    """
    children: set[int] = set()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    _say(control, {"ready": os.getpid()})
    requests = b""
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if control in ready:
            received = control.recv(65536)
            if not received:
                sys.exit(0)
            *lines, requests = (requests + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if "forget" in request:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(request["forget"], 0)
                    continue
                assert len(os.listdir("/proc/self/task")) == 1, "the nursery has threads: a fork would not be safe"
                done, doing = os.pipe()
                pid = os.fork()
                if pid == 0:
                    for descriptor in (woken, wake, done):
                        os.close(descriptor)
                    _be_a_process_of_its_own(control, Path(request["log"]))
                    os.close(doing)
                    os.environ.update(request["environment"])
                    return request["module"], request["arguments"]
                os.close(doing)
                os.read(done, 1)  # its end: the child can be signalled as a group
                os.close(done)
                children.add(pid)
                _say(control, {"started": pid})
        for pid in list(children):
            # The dead one is left where it is, so that its number cannot belong to another before it is forgotten.
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                children.discard(pid)
                code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
                _say(control, {"ended": pid, "code": code})


def _say(control: socket.socket, said: object) -> None:
    control.sendall(json.dumps(said).encode() + b"\n")


def _be_a_process_of_its_own(control: socket.socket, log: Path) -> None:
    parent = os.getppid()
    control.close()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the nursery died before the line above
        os._exit(1)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    faulthandler.register(signal.SIGUSR1)  # a worker that hangs can be asked where


def _warm() -> None:
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import worker.assembly
    import worker.cli
    import worker.commands.run
    import worker.model.step_model  # noqa: F401  (the imports are the effect)

    gc.collect()
    gc.freeze()


def main() -> None:
    """The warm process."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for whoever owns the nursery
    begun = time.monotonic()
    _warm()
    print(f"warm after {time.monotonic() - begun:.1f} s", flush=True)
    module, arguments = serve(control)
    sys.argv = ["cellstream", *arguments]
    if module == "worker.cli":
        from worker.cli import main as command

        command()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
