"""Which records of a batch are read by their schemas: those that were so the first time, and new ones if they can be.

See `worker.registry.known_schemas` for the rule. A registry that does not know a schema any more by which records were
read is waited for, and then the worker refuses to go on: without these records the states would not be what they were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from worker.codecs.registered import RegisteredValues, schema_id_of
from worker.errors import BadRecord, Refused
from worker.registry.client import HEADER_BYTES
from worker.registry.known_schemas import MOST, KnownSchemas

UNKNOWN_BEFORE = BadRecord("unknown_schema", "its schema was not known when the record was first read")
TOO_MANY = BadRecord("too_many_schemas", f"the records since the last checkpoint are of {MOST} other schemas")


class SchemaJudge:
    """Decide by schema IDs.

    Args:
        objects: of the values, by their schemas.
        topic: of the records, for messages.
        drop_lost: records whose schema is gone are refused one by one, though that may falsify a replay.
    """

    def __init__(self, objects: RegisteredValues, topic: str, drop_lost: bool = False) -> None:
        self._objects = objects
        self._topic = topic
        self._drop_lost = drop_lost

    def refused(
        self, partition: int, values: Sequence[bytes | None], offsets: Sequence[int], schemas: KnownSchemas
    ) -> dict[int, BadRecord]:
        """The records of a batch that are not to be read, by position.

        Args:
            partition: of the batch.
            values: with their schema's ID in front; those without one are left to the codec.
            offsets: likewise.
            schemas: of the partition's state; new ones are taken up.

        Raises:
            TransientFault: the registry does not answer.
            Refused: a schema by which records were read is gone.
        """
        heads = [None if value is None else value[:HEADER_BYTES] for value in values]
        last = dict(zip(heads, offsets, strict=True))
        first: dict[bytes | None, int] | None = None  # of the records that are read for the first time
        limits: dict[bytes, tuple[int | None, BadRecord]] = {}  # head -> the first record that is read, and the fault
        for head, until in last.items():
            schema_id = None if head is None else schema_id_of(head)
            if head is None or schema_id is None:
                continue
            begin, fault = schemas.begin(schema_id), UNKNOWN_BEFORE
            if begin is not None and begin <= until:
                gone = self._gone(partition, schema_id)
                if gone is None:
                    schemas.seen(schema_id, until)
                else:
                    begin, fault = None, gone
            elif begin is None and until >= schemas.settled:
                if first is None:
                    fresh = bisect_left(offsets, schemas.settled)
                    first = dict(zip(reversed(heads[fresh:]), reversed(offsets[fresh:]), strict=True))
                begin, fault = self._new(schema_id, first[head], until, schemas)
            if begin is None or begin > offsets[0]:
                limits[head] = begin, fault
        if not limits:
            return {}
        found: dict[int, BadRecord] = {}
        for i, (head, offset) in enumerate(zip(heads, offsets, strict=True)):
            if head in limits:
                begin, fault = limits[head]
                if begin is None or offset < begin:
                    found[i] = fault
        return found

    def _gone(self, partition: int, schema_id: int) -> BadRecord | None:
        fault = self._objects.unusable(schema_id, expected=True)
        if fault is None or self._drop_lost:
            return fault
        raise Refused(
            f"{self._topic}[{partition}]: records were read by schema {schema_id}, and it cannot be had any more: "
            f"{fault}. Put it back into the registry under this ID. If it is gone for good: on_lost_state=rebuild goes "
            "on without these records (the streams that have some answer otherwise than before)"
        )

    def _new(self, schema_id: int, first: int, last: int, schemas: KnownSchemas) -> tuple[int | None, BadRecord]:
        fault = self._objects.unusable(schema_id)
        if fault is not None:
            return None, fault
        if not schemas.take_up(schema_id, first):
            return None, TOO_MANY
        schemas.seen(schema_id, last)
        return first, UNKNOWN_BEFORE
