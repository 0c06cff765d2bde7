"""The note that a worker commits beside each offset: one line of text, in the field that Kafka calls metadata.

    cellstream origin=0 model=0bdb1f9d2ae3 topic=3Jc5hV2kQ1uJ8yqEo0m3Rg partitions=4 schemas=0,17:0-4210

This is version 1; not every one has `partitions` or `schemas`. A later version begins with `cellstream/2`, and so on.
A note that is ours and cannot be read is refused: as if it were not there, the group would go on without what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from worker.errors import StateRefused
from worker.records import Position
from worker.registry.known_schemas import NUMBER, TEXT

VERSION = 1
OURS = "cellstream"

_NOTE = re.compile(
    rf"^{OURS} origin=({NUMBER}|unknown) model=([0-9a-f]+) topic=(\S*)(?: partitions=({NUMBER}))?"
    rf"(?: schemas=({TEXT.pattern}))?$"
)
_LATER = re.compile(rf"{OURS}(?: rekey)?/({NUMBER}) ")


@dataclass(frozen=True)
class Note:
    """What is committed beside an offset.

    Attributes:
        origin: where the state began as empty; None when nobody knows.
        model: the first 12 digits of the artifact's digest.
        topic_id: of the input topic; "" when unknown.
        partitions: that the input topic had; None where an early worker did not say.
        schemas: see `worker.registry.known_schemas`; None where there are none.
    """

    origin: int | None
    model: str
    topic_id: str
    partitions: int | None
    schemas: str | None = None

    def __str__(self) -> str:
        origin = "unknown" if self.origin is None else self.origin
        partitions = "" if self.partitions is None else f" partitions={self.partitions}"
        schemas = "" if self.schemas is None else f" schemas={self.schemas}"
        return f"{OURS} origin={origin} model={self.model} topic={self.topic_id}{partitions}{schemas}"

    @classmethod
    def of(cls, position: Position | None) -> Note | None:
        """The note of a committed position; None when somebody else committed it.

        Raises:
            StateRefused: it is a note of cellstream's, but none that this one can read.
        """
        if position is None:
            return None
        match = _NOTE.match(position.note)
        if match is None:
            require_foreign(position)
            return None
        origin = None if match[1] == "unknown" else int(match[1])
        return cls(origin, match[2], match[3], None if match[4] is None else int(match[4]), match[5])


def former_partitions(committed: Iterable[Position]) -> int | None:
    """The number of partitions that a group's commits have noted; the smallest while they change over.

    Raises:
        StateRefused: see `Note.of`.
    """
    noted = (note.partitions for note in map(Note.of, committed) if note is not None)
    return min((count for count in noted if count is not None), default=None)


def require_foreign(position: Position) -> None:
    """Refuse a note that could not be read and is cellstream's own.

    Raises:
        StateRefused: says which version it is of, and what to do.
    """
    if not position.note.startswith(OURS):
        return
    where = f"partition {position.partition}: the note beside the committed offset {position.offset}"
    later = _LATER.match(position.note)
    if later is not None:
        raise StateRefused(
            f"{where} is of version {later[1]}, this cellstream reads version {VERSION}: a newer one has committed "
            "here, and what it has noted must not be lost. Run that one; docs/upgrades.md says how to go back behind it"
        )
    raise StateRefused(
        f"{where} is {position.note[:80]!r}, which this command of this cellstream does not know: `cellstream run` and "
        "`cellstream rekey` need a group_id each; a note of a newer cellstream needs that one (docs/upgrades.md)"
    )
