"""Laws of what runs in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest

from training.apart import apart
from worker.errors import FatalFault, UsageError


def counting(upto: int, on_epoch: Any) -> Iterator[tuple[int, int]]:
    for number in range(upto):
        on_epoch(number, 0.5, 0.25)
        yield os.getpid(), number


def failing(on_epoch: Any) -> Iterator[int]:
    yield 1
    raise UsageError("columns: none")


def dying(on_epoch: Any) -> Iterator[int]:
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def ignore(*epoch: Any) -> None:
    """Nobody looks."""


def test_it_yields_and_tells_what_the_function_does_in_another_process():
    told: list[Any] = []
    found = list(apart(counting, 3, on_epoch=lambda *epoch: told.append(epoch)))
    assert [number for _, number in found] == [0, 1, 2]
    assert told == [(number, 0.5, 0.25) for number in range(3)]
    (pid,) = {pid for pid, _ in found}
    assert pid != os.getpid()
    assert not psutil.pid_exists(pid)


def test_it_does_no_more_than_is_asked_for_and_is_gone_when_nobody_asks():
    told: list[Any] = []
    with closing(apart(counting, 1_000_000, on_epoch=lambda *epoch: told.append(epoch))) as numbers:
        pid, _ = next(iter(numbers))
    assert told == [(0, 0.5, 0.25)]
    assert not psutil.pid_exists(pid)


def test_what_the_function_raises_is_raised_here():
    numbers = apart(failing, on_epoch=ignore)
    assert next(numbers) == 1
    with pytest.raises(UsageError, match="columns: none"):
        next(numbers)


def test_a_process_that_was_killed_is_told():
    numbers = apart(dying, on_epoch=ignore)
    assert next(numbers) == 1
    with pytest.raises(FatalFault, match="ended with -9"):
        next(numbers)
