"""Values with a schema ID in front: `avro`, `protobuf` and `json-schema`, read as the objects that they are.

The schema that a value was written with is asked for once. By it the value becomes an object, and what the object means
the codec of objects says: features by their names, or `features`, or `samples`. So a producer's schema may have other
fields, in another order, and may change, as long as those stay; numbers of any width are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from worker.codecs.avro import avro_transcoder
from worker.codecs.codec import Codec, Decoded, Sample
from worker.codecs.protobuf import protobuf_transcoder
from worker.errors import BadRecord
from worker.registry.client import HEADER_BYTES, MAGIC, Registry, header

Transcode = Callable[[bytes], bytes]


class RegisteredValues:
    """Turn values into the objects that they are, by the schemas that they name.

    Args:
        schema_type: the registry's word.
        registry: has the schemas.
    """

    def __init__(self, schema_type: str, registry: Registry) -> None:
        self._schema_type = schema_type
        self.registry = registry
        self._transcode = TRANSCODERS[schema_type]
        self._transcoders: dict[bytes, Transcode] = {}
        self._useless: dict[int, BadRecord] = {}  # schemas that cannot be used, which takes a while to find out

    def unusable(self, schema_id: int, expected: bool = False) -> BadRecord | None:
        """Why no record can be read by a schema; None where it can.

        Args:
            schema_id: in the registry.
            expected: records were read by it; one that is not there is waited for.

        Raises:
            TransientFault: the registry does not answer.
        """
        head = header(schema_id)
        if head not in self._transcoders:
            try:
                self._transcoders[head] = self._new_transcoder(schema_id, expected)
            except BadRecord as fault:
                return fault
        return None

    def object(self, value: bytes) -> bytes:
        """A value as an object: in JSON of a JSON Schema, else in MessagePack.

        Raises:
            BadRecord: it names no schema that can be used, or is not of it.
            TransientFault: the registry does not answer.
        """
        transcode = self._transcoders.get(value[:HEADER_BYTES])
        if transcode is None:
            schema_id = schema_id_of(value[:HEADER_BYTES])
            if schema_id is None:
                raise BadRecord("no_schema_id", "expected a zero byte and the schema's ID in front of the value")
            transcode = self._transcoders[header(schema_id)] = self._new_transcoder(schema_id)
        return transcode(value)

    def _new_transcoder(self, schema_id: int, expected: bool = False) -> Transcode:
        if schema_id in self._useless:
            raise self._useless[schema_id]
        schema = self.registry.schema(schema_id, expected)
        if schema.schema_type != self._schema_type:
            raise BadRecord("unknown_schema", f"schema {schema_id} is {schema.schema_type}, not {self._schema_type}")
        try:
            return self._transcode(schema, self.registry)
        except BadRecord as fault:
            self._useless[schema_id] = fault
            raise


class RegisteredCodec(Codec):
    """Read values by the schemas that they name.

    Args:
        plain: reads the objects: of JSON for `JSON`, of MessagePack for the others.
        objects: the values as objects.
    """

    def __init__(self, plain: Codec, objects: RegisteredValues) -> None:
        super().__init__(plain.features, plain.max_bytes, plain.max_samples, plain.missing, plain.timesteps)
        self._plain = plain
        self.objects = objects

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a poll's values.

        Raises:
            TransientFault: the registry does not answer.
        """
        found: list[bytes | None] = []
        bad: dict[int, BadRecord] = {}
        for position, value in enumerate(values):
            try:
                found.append(None if value is None else self._object(value))
            except BadRecord as fault:
                found.append(None)
                bad[position] = fault
        decoded = self._plain.decode(found)
        decoded.bad |= bad
        return decoded

    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """Not used: `decode` leaves it to the plain codec."""
        return None

    def one(self, value: bytes) -> Sample:
        """One value, whatever it is."""
        return self._plain.one(self._object(value))

    def _object(self, value: bytes) -> bytes:
        if len(value) > self.max_bytes:
            raise BadRecord("oversized_value", f"expected at most {self.max_bytes} bytes, received {len(value)}")
        return self.objects.object(value)


def schema_id_of(head: bytes) -> int | None:
    """The ID in a value's first bytes; None where there is none."""
    return int.from_bytes(head[1:], "big") if len(head) == HEADER_BYTES and head[:1] == MAGIC else None


def _json_transcoder(schema: Any, registry: Registry) -> Transcode:
    """The JSON behind the ID; that it is as its schema says its producer has seen to."""
    return lambda value: value[HEADER_BYTES:]


TRANSCODERS: dict[str, Callable[[Any, Registry], Transcode]] = {
    "AVRO": avro_transcoder,
    "PROTOBUF": protobuf_transcoder,
    "JSON": _json_transcoder,
}
