"""Which topics a deployment needs, and whether those that exist will do.

The input topic is the changelog of all state: what compaction or retention removes from it before a checkpoint has
it cannot be computed again (RELIABILITY rule 17). So an input topic that forgets too early is unsafe, while
a topic that only differs from what was asked for is said to differ. Decisions only; no client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PARTITIONS = 4
RETENTION_HOURS = 168.0  # a week: a long weekend's outage and its repair
LEAST_RETENTION_HOURS = 1.0  # of an input topic of which nothing was asked
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Wanted:
    """A topic as it was asked for; None means that nothing was, and the default is only used to create it."""

    role: str  # "input", "output" or "dead letters"
    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    retention_hours: float | None = None

    def settings(self) -> dict[str, str]:
        """Topic settings to create it with; retention by size is off, because it takes no account of time."""
        hours = RETENTION_HOURS if self.retention_hours is None else self.retention_hours
        return {"cleanup.policy": "delete", "retention.ms": str(round(hours * HOUR_MS)), "retention.bytes": "-1"}


@dataclass(frozen=True)
class Problem:
    """What is wrong with an existing topic, and what to do about it."""

    unsafe: bool  # going on could lose state; otherwise the topic only differs from what was asked
    what: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One row of the report."""

    wanted: Wanted
    status: str  # created, exists, differs, unsafe or missing
    topic_id: str = ""
    partitions: int = 0
    replication_factor: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def judge(wanted: Wanted, partitions: int, replication_factor: int, settings: Mapping[str, str]) -> tuple[Problem, ...]:
    """Compare an existing topic with what was asked for and with what is safe.

    Args:
        wanted: what was asked for.
        partitions: that it has.
        replication_factor: that it has; the least of its partitions.
        settings: in force; empty where the broker has none (the embedded one), which is taken as it is.

    Returns:
        Nothing when the topic will do.
    """
    problems = [*_shape(wanted, partitions, replication_factor)]
    if settings:
        problems += _forgetting(wanted, settings)
    return tuple(problems)


def status(problems: tuple[Problem, ...], created: bool) -> str:
    """One word for a topic that is there."""
    if any(problem.unsafe for problem in problems):
        return "unsafe"
    return "differs" if problems else "created" if created else "exists"


def _shape(wanted: Wanted, partitions: int, replication_factor: int) -> list[Problem]:
    problems = []
    if wanted.partitions not in (None, partitions):
        remedy = (
            "ask for as many as there are, or use a new topic: adding partitions moves streams away from their state"
        )
        problems.append(Problem(False, f"has {partitions} partitions, not {wanted.partitions}", remedy))
    if wanted.replication_factor not in (None, replication_factor):
        what = f"has replication factor {replication_factor}, not {wanted.replication_factor}"
        problems.append(Problem(False, what, "use kafka-reassign-partitions.sh, or ask for the factor it has"))
    return problems


def _forgetting(wanted: Wanted, settings: Mapping[str, str]) -> list[Problem]:
    is_input = wanted.role == "input"
    problems = []
    policy = settings.get("cleanup.policy", "delete")
    if policy != "delete":
        what = f"cleanup.policy is {policy}: compaction removes samples that the state was made of"
        if not is_input:
            what = f"cleanup.policy is {policy}: compaction keeps one record of each stream"
        problems.append(Problem(is_input, what, _alter(wanted.name, "cleanup.policy=delete")))
    least = wanted.retention_hours
    if least is None and is_input:
        least = LEAST_RETENTION_HOURS
    retention_ms = int(settings.get("retention.ms", "-1"))
    if least is not None and 0 <= retention_ms < round(least * HOUR_MS):
        what = f"retention.ms is {retention_ms} ({retention_ms / HOUR_MS:g} h), less than {least:g} h"
        problems.append(Problem(is_input, what, _alter(wanted.name, f"retention.ms={round(least * HOUR_MS)}")))
    if is_input and int(settings.get("retention.bytes", "-1")) >= 0:
        what = f"retention.bytes is {settings['retention.bytes']}: under load it removes samples before their time"
        problems.append(Problem(False, what, _alter(wanted.name, "retention.bytes=-1")))
    return problems


def _alter(name: str, setting: str) -> str:
    return f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {setting}"
