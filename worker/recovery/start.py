"""Where a partition's state comes from when it is assigned, or after an abort: the one recovery path.

The state at the committed offset is rebuilt from the newest checkpoint at or below it and the records in between.
Each commit carries a note of where the group began (`worker.recovery.note`), so that the log alone is enough as long as
it still reaches back that far. When nothing adds up to the exact state the partition is refused (RELIABILITY rule 16),
unless the operator has named a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from worker.errors import CheckpointDamaged, CheckpointOfNewerVersion, CheckpointOfOtherModel, StateRefused
from worker.records import Position
from worker.recovery.note import Note
from worker.registry.known_schemas import floor_of

RUN_NEWER = "Run the cellstream that wrote the newer checkpoints: to it nothing is lost. If that cannot be: "
POINT_THERE = "Point `checkpoints` at the store that this group wrote to. If it is gone: "


@dataclass(frozen=True)
class Log:
    """What the broker says of a partition.

    Attributes:
        low: first offset that is still in the log.
        high: the one behind the last.
        committed: the group's committed position, or None.
        partitions: of the topic.
        former_partitions: that the topic had when the group last committed, by its notes; None when they do not say.
    """

    topic: str
    partition: int
    topic_id: str
    low: int
    high: int
    committed: Position | None
    partitions: int
    former_partitions: int | None


@dataclass(frozen=True)
class Policies:
    """What the operator allows when state, offsets and log do not fit together; see `worker.settings.model`."""

    start_from: str = "earliest"
    on_lost_state: str = "refuse"
    on_lost_offsets: str = "refuse"
    on_model_change: str = "refuse"
    on_new_partitions: str = "refuse"


@dataclass(frozen=True)
class Saved:
    """A checkpoint, as far as the decision and the metrics need it."""

    next_offset: int
    topic_id: str
    artifact_digest: str
    created_ms: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class Start:
    """Where to begin.

    Attributes:
        next_offset: the first record to step.
        committed: records below it were answered before and are not published again.
        origin: where the state began as empty, so that the log from there rebuilds it; None when nobody knows.
        saved: the checkpoint to begin with, or None for an empty state.
        why: for the log.
    """

    next_offset: int
    committed: int
    origin: int | None
    saved: Saved | None
    why: str


def choose_start(
    log: Log, offsets: Iterable[int], load: Callable[[int], Saved], digest: str, policies: Policies
) -> Start:
    """Decide where a partition begins.

    Args:
        log: what the broker has.
        offsets: `next_offset` of the partition's checkpoints, newest first.
        load: verify and load the checkpoint of one of them; raises `CheckpointDamaged`.
        digest: of the artifact in use.
        policies: what the operator allows.

    Raises:
        StateRefused: the exact state cannot be had; says what can be done.
    """
    where = f"{log.topic}[{log.partition}]"
    offsets = list(offsets)
    _verify_partitions(where, log, policies)
    if log.committed is None:
        if log.former_partitions is not None and log.partition >= log.former_partitions:
            return Start(log.low, log.low, log.low, None, "new partition")
        if not offsets:
            begin = log.low if policies.start_from == "earliest" else log.high
            return Start(begin, begin, begin, None, f"new group, {policies.start_from}")
        return _without_offsets(where, log, offsets, load, digest, policies)
    committed = log.committed.offset
    if committed > log.high:
        raise StateRefused(
            f"{where}: offset {committed} is committed, but the log ends at {log.high}: the topic was truncated or "
            f"created anew. Delete the group's offsets and its checkpoints to begin again (`cellstream state reset`)"
        )
    return _at(where, log, committed, [o for o in offsets if o <= committed], load, digest, policies)


def _verify_partitions(where: str, log: Log, policies: Policies) -> None:
    """Refuse a topic that has grown: the streams' keys lead to other partitions than before."""
    if log.former_partitions in (None, log.partitions) or policies.on_new_partitions == "continue":
        return
    raise StateRefused(
        f"{where}: the topic has {log.partitions} partitions, it had {log.former_partitions} when the group last "
        "committed: producers send most streams to other partitions now, where they begin anew in the middle of their "
        "sequences. If that is acceptable: on_new_partitions=continue. To keep every sequence whole: stop the "
        "producers, create a topic with as many partitions as you need, and begin there once these streams have ended"
    )


def _at(
    where: str,
    log: Log,
    committed: int,
    offsets: list[int],
    load: Callable[[int], Saved],
    digest: str,
    policies: Policies,
) -> Start:
    """The exact state at a committed offset."""
    noted = Note.of(log.committed)
    origin, noted_model, noted_topic = (noted.origin, noted.model, noted.topic_id) if noted else (None, None, "")
    if noted_topic and log.topic_id and noted_topic != log.topic_id:
        raise StateRefused(
            f"{where}: the committed offset {committed} is of another topic of this name (ID {noted_topic}, now "
            f"{log.topic_id}): the topic was created anew. Delete the group's offsets, and its state with "
            "`cellstream state reset`"
        )
    if noted_model is not None and not digest.startswith(noted_model):
        return _other_model(where, log, committed, f"model {noted_model}", digest, policies)
    unusable: list[str] = []
    newer = False
    floor = floor_of(noted.schemas if noted else None)
    for offset in offsets:
        if offset < max(log.low, origin or 0, floor):
            break  # the records behind it are gone, or their schemas forgotten; or it was given up before the origin
        try:
            saved = load(offset)
        except CheckpointOfOtherModel as fault:
            had = "another model"
            unusable.append(str(fault))
        except CheckpointDamaged as fault:
            unusable.append(str(fault))
            newer = newer or isinstance(fault, CheckpointOfNewerVersion)
            continue
        else:
            if log.topic_id and saved.topic_id and saved.topic_id != log.topic_id:
                unusable.append(f"the one at {offset} is of a former topic of this name (ID {saved.topic_id})")
                continue
            if saved.artifact_digest == digest:
                return Start(offset, committed, origin, saved, "checkpoint")
            had = f"model {saved.artifact_digest[:12]}"
            unusable.append(f"the one at {offset} is of {had}")
        if noted_model is None:
            return _other_model(where, log, committed, had, digest, policies)
    found = f"{len(offsets)} checkpoints, {len(unusable)} of them unusable" if offsets else "no checkpoint"
    if origin is not None and max(log.low, floor) <= origin:
        return Start(origin, committed, origin, None, f"{found}; the log reaches back to where the group began")
    why = f"{found} ({unusable[0]})" if unusable else found
    return _lost(where, log, committed, why, newer, policies)


def _lost(where: str, log: Log, committed: int, why: str, newer: bool, policies: Policies) -> Start:
    """The exact state at a committed offset cannot be had; by a newer cellstream it may (`newer`)."""
    if policies.on_lost_state == "rebuild":
        return Start(log.low, max(committed, log.low), log.low, None, "on_lost_state=rebuild")
    if policies.on_lost_state == "fresh":
        begin = max(committed, log.low)
        return Start(begin, begin, begin, None, "on_lost_state=fresh")
    raise StateRefused(
        f"{where}: the state at the committed offset {committed} cannot be rebuilt: {why}, and the log "
        f"begins at {log.low}. {RUN_NEWER if newer else POINT_THERE}"
        "on_lost_state=rebuild replays what the log has (streams that began earlier get shorter sequences), "
        "on_lost_state=fresh begins every stream anew"
    )


def _other_model(where: str, log: Log, committed: int, had: str, digest: str, policies: Policies) -> Start:
    if policies.on_model_change == "rebuild":
        return Start(log.low, max(committed, log.low), log.low, None, "on_model_change=rebuild")
    if policies.on_model_change == "fresh":
        begin = max(committed, log.low)
        return Start(begin, begin, begin, None, "on_model_change=fresh")
    raise StateRefused(
        f"{where}: its state belongs to {had}, the artifact is model {digest[:12]}. Run the former artifact, or "
        "say how to change over: on_model_change=rebuild replays the log through the new model, on_model_change=fresh "
        "begins every stream anew. Or give the new model a group_id and an output_topic of its own"
    )


def _without_offsets(
    where: str, log: Log, offsets: list[int], load: Callable[[int], Saved], digest: str, policies: Policies
) -> Start:
    """The group has state and no committed offset: its offsets expired or were deleted."""
    policy = policies.on_lost_offsets
    if policy == "refuse":
        raise StateRefused(
            f"{where}: the group has no committed offset, but a checkpoint at {offsets[0]}: its offsets expired or "
            "were deleted, or the topic was created anew. on_lost_offsets=checkpoint goes on there (what was answered "
            "since is answered again), earliest and latest begin anew"
        )
    if policy == "checkpoint":
        newest = next((offset for offset in offsets if offset <= log.high), None)
        if newest is None:
            raise StateRefused(f"{where}: the newest checkpoint is at {offsets[0]}, but the log ends at {log.high}")
        return _at(where, log, newest, [o for o in offsets if o <= newest], load, digest, policies)
    begin = log.low if policy == "earliest" else log.high
    return Start(begin, begin, begin, None, f"on_lost_offsets={policy}")
