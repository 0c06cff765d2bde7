"""Which work was done twice, and whether anybody could have helped it: read from the logs of a deployment's workers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_EVENT = re.compile(
    r"^(?P<at>[\d:.]+) \[\w+ *\] (?:(?:aborted|lost) .*?partitions=\[(?P<given_up>[\d, ]*)\]"
    r"|restored .*?committed=(?P<committed>\d+) .*?next_offset=(?P<begin>\d+) partition=(?P<partition>\d+))",
    re.MULTILINE,
)


def replays(logs: Iterable[Path]) -> tuple[set[tuple[int, int, int]], set[tuple[int, int, int]]]:
    """Partition, begin and end of each replay of at least one record, by the logs of all workers of a deployment.

    Returns:
        Those that follow a hand-over, and those that follow an abort or a lost session, whoever restores the partition
        then; a replay that is handed over unfinished is one of the latter.
    """
    events = [event for log in logs for event in _EVENT.finditer(log.read_text(errors="replace"))]
    given_up: set[int] = set()  # partitions whose state was dropped unsaved, and not restored since
    handed_over, aborted = set(), set()
    for event in sorted(events, key=lambda event: event["at"]):
        if event["partition"] is None:
            given_up.update(map(int, re.findall(r"\d+", event["given_up"])))
            continue
        partition, begin, committed = (int(event[name]) for name in ("partition", "begin", "committed"))
        if begin < committed:
            (aborted if partition in given_up else handed_over).add((partition, begin, committed))
        given_up.discard(partition)
    return handed_over - aborted, aborted
