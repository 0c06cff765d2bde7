"""A client call that does not keep to its time-out ends the process; any other goes through unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from worker.kafka.overdue import within

HANGING = """
import time
from worker.kafka import overdue
overdue.TICK_S = {tick_s}
print("calling", flush=True)
overdue.within("commit_transaction", lambda: time.sleep({call_s}), {limit_s})
print("returned", flush=True)
"""


def process(call_s: float, limit_s: int, tick_s: float) -> subprocess.Popen[str]:
    code = HANGING.format(call_s=call_s, limit_s=limit_s, tick_s=tick_s)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def test_a_call_that_does_not_come_back_ends_the_process_and_is_named() -> None:
    with process(call_s=600, limit_s=3, tick_s=0.1) as hanging:
        said, _ = hanging.communicate(timeout=180)
    assert hanging.returncode == 1
    assert "commit_transaction" in said
    assert "returned" not in said


def test_a_process_that_was_stopped_for_longer_than_the_limit_goes_on() -> None:
    with process(call_s=1.0, limit_s=30, tick_s=0.1) as stopped:  # three seconds are the limit
        assert stopped.stdout is not None
        assert stopped.stdout.readline() == "calling\n"
        os.kill(stopped.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(stopped.pid, signal.SIGCONT)
        said, _ = stopped.communicate(timeout=180)
    assert (stopped.returncode, said) == (0, "returned\n")


def test_what_a_call_returns_or_raises_is_what_it_returned_or_raised() -> None:
    assert within("call", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within("call", lambda: 1 // 0)
