"""Every violation that was ever found, as the shortest schedule that shows it."""

from __future__ import annotations

import pytest

from tests.simulator.patches import simulated
from tests.simulator.plan import Plan, Step
from tests.simulator.search import run

# A request that was made again because nothing answered arrives when the next transaction of the same producer is
# open (RELIABILITY rule 11).
LATE = {
    # It committed the events, whose offsets came too late: they were published twice.
    "commit": (
        Step("start"),
        Step("turn", number=2),
        Step("fault", word="end late", seconds=6.0),
        Step("input", values=(30,)),
        Step("turn", number=3),
        Step("input", values=(30,)),
        Step("turn", number=1),
        Step("pass", seconds=1.0),
        Step("crash", number=2),
        Step("turn", number=3),
        Step("start"),
    ),
    # It aborted the events and left the offsets: they were never published.
    "abort": (
        Step("start"),
        Step("turn", number=3),
        Step("input", values=(30,)),
        Step("fault", word="send_offsets abortable"),
        Step("fault", word="end late", seconds=5.3),
        Step("turn", number=4),
        Step("input", values=(31,)),
        Step("turn", number=1),
        Step("pass", seconds=1.0),
        Step("turn", number=4),
    ),
    # It put the offsets back, and the events were published: the next owner would have published them again.
    "offsets": (
        Step("start"),
        Step("turn", number=2),
        Step("input", values=(30,)),
        Step("fault", word="send_offsets late", seconds=6.0),
        Step("turn", number=3),
        Step("input", values=(31, 32, 33)),
        Step("pause", number=13, word="frozen"),
        Step("turn", number=8),
        Step("pass", seconds=3.0),
        Step("resume"),
    ),
}


@pytest.mark.parametrize("request_", LATE)
def test_a_request_that_arrives_late_finds_no_transaction_to_disturb(request_: str) -> None:
    lines = holds(Plan(commit_interval_s=0.4, poll_records=1, steps=LATE[request_]))
    assert any("late one arrives" in line for line in lines), "\n".join(lines)


def test_a_new_group_saves_nothing_before_it_has_committed_where_it_begins() -> None:
    # The second partition of two, whose first commit waits for the interval, was saved; after a crash the worker found
    # a checkpoint and no committed offset, and refused to start.
    steps = (
        Step("input", values=(30, 31, 32, 33)),
        Step("start"),
        Step("turn", number=5),
        Step("write"),
        Step("write"),
        Step("kill"),
        Step("input", 1, values=(30,)),
    )
    holds(Plan(partitions=2, commit_interval_s=0.4, poll_records=1, checkpoint_records=1, steps=steps))


def holds(plan: Plan) -> list[str]:
    """No law is broken; returns the trace."""
    lines: list[str] = []
    with simulated():
        report = run(plan, lines.append)
    assert not report.violations, "\n".join([*report.violations, *lines])
    return lines
