"""Where the copying of each partition begins: at the group's committed offset, or where a new group starts.

There is no state beside those offsets. So what they do not say is refused rather than guessed: a record copied twice
is a sample counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from worker.errors import StateRefused
from worker.kafka import Survey
from worker.records import Position
from worker.recovery.note import require_foreign
from worker.registry.known_schemas import NUMBER

NOTE = re.compile(rf"cellstream rekey topic=(\S*) partitions=({NUMBER})$")


@dataclass(frozen=True)
class Places:
    """The rule by which a partition's first record is found.

    Args:
        topic: that is copied.
        topic_id: its ID; "" where there is none.
        group_id: whose committed offsets say how far it was copied.
        start_from: where a new group starts.
    """

    topic: str
    topic_id: str
    group_id: str
    start_from: Literal["earliest", "latest"]

    def begin(self, partition: int, survey: Survey) -> int:
        """The first offset of a partition that is not copied yet.

        Raises:
            StateRefused: records that were never copied are gone, or the committed offset is of another log.
        """
        low, high = survey.bounds[partition]
        position = survey.committed.get(partition)
        if position is None:
            known = _known_partitions(survey.committed)
            added = known is not None and partition >= known  # its producers began when others were copied already
            return low if added or self.start_from == "earliest" else high
        where = f"{self.topic}[{partition}]"
        noted = NOTE.match(position.note)
        if noted is None:
            require_foreign(position)
        if noted is not None and self.topic_id and noted[1] not in ("", self.topic_id):
            raise StateRefused(
                f"{where}: the committed offset {position.offset} is of another topic of this name (ID {noted[1]}, now "
                f"{self.topic_id}). To copy the new topic delete the offsets of group {self.group_id}"
            )
        if not low <= position.offset <= high:
            raise StateRefused(
                f"{where}: the log has offsets {low} to {high}, the next to copy is {position.offset}: records that "
                "were not copied are gone, or the log is another one. To go on with what is there, move the offset: "
                f"kafka-consumer-groups.sh --group {self.group_id} --topic {self.topic}:{partition} "
                "--reset-offsets --to-earliest --execute"
            )
        return position.offset

    def note(self, partitions: int) -> str:
        """What is stored with each committed offset: which topic it is of, and how many partitions that had."""
        return f"cellstream rekey topic={self.topic_id} partitions={partitions}"


def _known_partitions(committed: Mapping[int, Position]) -> int | None:
    notes = [NOTE.match(position.note) for position in committed.values()]
    return min((int(note[2]) for note in notes if note is not None), default=None)
