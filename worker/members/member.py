"""One worker process of several: the supervisor's handle of it, and what runs in it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from multiprocessing.connection import Connection
from threading import Event
from typing import Any

from worker.pages.server import Answer, Route, Serving
from worker.settings import Settings

ANSWER_WITHIN_S = 3.0

Work = Callable[[Settings, Event, Serving], int]


class Member:
    """A process that runs one worker until it is told to stop.

    Args:
        settings: of this worker.
        work: runs a worker in its own process, with settings, what stops it, and what serves its pages; its result is
            the exit code.
    """

    def __init__(self, settings: Settings, work: Work) -> None:
        self.name = settings.instance_id
        self._connection, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")  # a fork would share the clients' threads and TensorFlow's
        self._process = spawn.Process(target=_main, args=(settings, theirs, work), name=self.name)
        self._asking = threading.Lock()
        self._asked = 0
        self._process.start()
        theirs.close()

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` can wait for: ready when the process is over."""
        return self._process.sentinel

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0 when a signal ended it."""
        return self._process.exitcode

    def ask(self, page: str) -> Answer | None:
        """What the member says on one of its pages; None when it does not answer within `ANSWER_WITHIN_S`."""
        with self._asking:
            self._asked += 1
            try:
                self._connection.send((self._asked, page))
                while self._connection.poll(ANSWER_WITHIN_S):
                    number, answer = self._connection.recv()
                    if number == self._asked:  # an older one was given up
                        return answer
            except (OSError, EOFError):
                return None  # it is over, or about to be
            return None

    def stop(self) -> None:
        """Ask it to finish its work and end."""
        self._process.terminate()

    def wait(self) -> int:
        """Wait for its end and give back what it held."""
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        self._connection.close()
        return code


def _main(settings: Settings, supervisor: Connection, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the supervisor obeys it
    stop = Event()
    pages: dict[str, Route] = {}
    threading.Thread(target=_answer, args=(supervisor, pages, stop), daemon=True, name="supervisor").start()

    @contextmanager
    def serving(routes: dict[str, Route]) -> Iterator[str]:
        pages.update(routes)
        yield "the supervisor"

    sys.exit(work(settings, stop, serving))


def _answer(supervisor: Connection, pages: dict[str, Route], stop: Event) -> None:
    """Serve the pages to the supervisor until it is gone; then the worker has to go, too."""
    while True:
        try:
            number, page = supervisor.recv()
            route = pages.get(page, _starting)
            supervisor.send((number, route({"PATH_INFO": page})))
        except (OSError, EOFError):
            stop.set()
            return


def _starting(environ: dict[str, Any]) -> Answer:
    """Alive, but not ready, and without metrics yet."""
    alive = environ["PATH_INFO"] == "/live"
    status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
    return status, [], b'{"live":true,"reason":"the worker is starting"}'
