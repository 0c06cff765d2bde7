"""Which schemas a partition's records were read by, and from where on: a replay reads by these and by no other.

What a registry knows changes: a record is refused because nobody knows its schema, and a minute later the schema is
there. A replay that asked again would step that record, and the states behind it would be none that was ever answered
from. So the schemas in use are committed with the offsets, in the note beside each. A schema counts from the first
record on that was read by it; below the committed offset, what is not in the note was refused, and is again.

What was refused needs no memory, so nobody can fill it with IDs that do not exist. When there are many schemas, those
are forgotten that no record behind the last durable checkpoint names; `floor` says how far a replay may go back.
"""

from __future__ import annotations

import re

MOST = 64  # at most 53 characters each; with the rest of the note they stay below Kafka's 4,096 bytes
NUMBER = "[0-9]{1,19}"  # of 64 bits
TEXT = re.compile(f"{NUMBER}(?:,{NUMBER}:{NUMBER}-{NUMBER})*")


class KnownSchemas:
    """The schemas of one partition.

    Args:
        floor: first offset that a replay may begin at.
        settled: below it, what is not known was refused; 0 where nothing was noted.
        complete_from: below it, this does not say all, and is not to be noted.
    """

    def __init__(self, floor: int = 0, settled: int = 0, complete_from: int = 0) -> None:
        self.floor = floor
        self.settled = settled
        self._complete_from = complete_from
        self._spans: dict[int, tuple[int, int]] = {}  # ID -> offsets of the first and the last record read by it
        self._in_use = False

    @classmethod
    def restored(cls, noted: str | None, next_offset: int, committed: int) -> KnownSchemas:
        """Those of a partition whose replay begins at `next_offset`; `noted` beside its committed offset, or not."""
        if noted is None:
            return cls(next_offset, 0, committed)
        floor, *spans = noted.split(",")
        schemas = cls(int(floor), committed)
        schemas._in_use = True
        for span in spans:
            schema_id, first, last = map(int, re.split("[:-]", span))
            schemas._spans[schema_id] = first, last
        return schemas

    def begin(self, schema_id: int) -> int | None:
        """The first record that was read by a schema; None where none was."""
        self._in_use = True
        span = self._spans.get(schema_id)
        return None if span is None else span[0]

    def take_up(self, schema_id: int, offset: int) -> bool:
        """Read by a schema from this record on; False where there are too many of them already."""
        if len(self._spans) >= MOST:
            return False
        self._spans[schema_id] = offset, offset
        return True

    def seen(self, schema_id: int, offset: int) -> None:
        """A record was read by a schema in use."""
        first, last = self._spans[schema_id]
        self._spans[schema_id] = first, max(last, offset)

    def make_room(self, durable: int) -> None:
        """Forget what no replay from the newest durable checkpoint needs, where there is much.

        Args:
            durable: offset of that checkpoint.
        """
        if len(self._spans) <= MOST // 2:
            return
        for schema_id, (_, last) in list(self._spans.items()):
            if last < durable:
                self.floor = max(self.floor, last + 1)
                del self._spans[schema_id]

    def note(self, next_offset: int) -> str | None:
        """As text for a commit at this state's offset; None where there is nothing to say."""
        if not self._in_use or next_offset < self._complete_from:
            return None
        return ",".join([str(self.floor), *(f"{i}:{first}-{last}" for i, (first, last) in self._spans.items())])


def floor_of(noted: str | None) -> int:
    """The first offset that a replay may begin at, by the note of a commit."""
    return 0 if noted is None else int(noted.partition(",")[0])
