"""The first violation, its coordinates, and what every worker said around that time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from tests.chaos.checker.records import Violation

LINES = 8
AFTER_S = 1.0
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d\.\d+) ")
DAY_S = 86_400.0


def report(violations: Sequence[Violation], logs: Sequence[Path]) -> str:
    """Words for people; empty when nothing is broken.

    Args:
        violations: all of them.
        logs: of the workers, as console or as JSON lines.
    """
    if not violations:
        return ""
    first = first_of(violations)
    counts = Counter(violation.law for violation in violations)
    lines = [
        f"{len(violations)} violations: {', '.join(f'{number} {law}' for law, number in counts.most_common())}",
        f"the first: {first.law} at {_where(first)}: {first.words}",
    ]
    for violation in [v for v in violations if v is not first][:4]:
        lines.append(f"     also: {violation.law} at {_where(violation)}: {violation.words[:300]}")
    for log in logs:
        around = _around(log, first.at_s)
        lines += [f"--- {log.name}", *(around or ["(silent)"])]
    return "\n".join(lines)


def first_of(violations: Sequence[Violation]) -> Violation:
    """The earliest in time, among those whose time is known, or else the one at the smallest offset."""
    return min(violations, key=lambda v: (v.at_s is None, v.at_s or 0.0, v.source is None, (v.source or (0, 0))[::-1]))


def _where(violation: Violation) -> str:
    place = "an unknown record" if violation.source is None else "input {}-{}".format(*violation.source)
    if violation.at_s is None:
        return place
    return f"{place}, {datetime.fromtimestamp(violation.at_s):%H:%M:%S.%f}"


def _around(log: Path, at_s: float | None) -> list[str]:
    """The last lines before a moment, and what came shortly after; the last of all where no moment is known."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return []
    timed = list(_timed(text.splitlines(), at_s))
    before = [line for time_s, line in timed if at_s is None or time_s <= at_s]
    after = [line for time_s, line in timed if at_s is not None and at_s < time_s <= at_s + AFTER_S]
    return [*before[-LINES:], *after[:LINES]]


def _timed(lines: Sequence[str], near_s: float | None) -> Iterator[tuple[float, str]]:
    """Lines with their times; a line without one, of a traceback for instance, has that of the line before it."""
    time_s = 0.0
    for line in lines:
        time_s = _time_of(line, near_s) or time_s
        yield time_s, line[:400]


def _time_of(line: str, near_s: float | None) -> float | None:
    clock = _CLOCK.match(line)
    if clock is not None:  # a time of day, of the day that brings it nearest
        midnight = datetime.fromtimestamp(near_s or 0.0).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        time_s = midnight + int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
        return time_s - DAY_S * round((time_s - (near_s or time_s)) / DAY_S)
    if line.startswith("{"):
        try:
            return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            return None
    return None
