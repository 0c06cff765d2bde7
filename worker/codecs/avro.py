"""Avro -> the same object in MessagePack, by schemas that cannot be made to run away.

The compiled reader follows a schema wherever it leads. One that holds itself lets a value of many bytes end the process
by its stack; an array of items that take no bytes lets a few bytes claim billions of them. Both are refused before the
first value is read, and decimals, whose conversion takes the square of their length, stay the bytes that they are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec

from worker.errors import BadRecord, UsageError
from worker.registry.client import HEADER_BYTES, Registry

MOST_FIELDS = 10_000  # of a value without the items of its arrays and maps
# What a damaged value, or one of another schema, makes the Avro library raise.
NOT_AVRO = (
    *(EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, StopIteration),
    struct.error,
)


def avro_transcoder(schema: Any, registry: Registry) -> Callable[[bytes], bytes]:
    """The function that turns values of a schema, with its ID in front, into MessagePack.

    Raises:
        BadRecord: the schema, or one that it refers to, is none, or could run away.
    """
    try:
        import fastavro
    except ImportError as fault:
        raise UsageError(f"avro needs the extra: pip install 'cellstream[registry]' ({fault})") from None
    named: dict[str, Any] = {}

    def parsed(one: Any) -> Any:
        for reference in one.references or ():
            parsed(registry.version(reference.subject, reference.version))
        return fastavro.parse_schema(json.loads(one.schema_str), named_schemas=named)

    try:
        writer = parsed(schema)
        _fields(writer, named, {})
    except (ValueError, TypeError, KeyError, RecursionError, fastavro.schema.SchemaParseException) as fault:
        raise BadRecord("unknown_schema", f"the schema cannot be used: {fault}"[:300]) from None
    encode = msgspec.msgpack.Encoder().encode

    def transcode(value: bytes) -> bytes:
        stream = BytesIO(value)
        stream.seek(HEADER_BYTES)
        try:
            found = fastavro.schemaless_reader(stream, writer, None)
        except NOT_AVRO as fault:
            raise BadRecord("not_avro", f"not of its schema: {type(fault).__name__}: {fault}"[:300]) from None
        if stream.tell() != len(value):
            raise BadRecord("not_avro", f"{len(value) - stream.tell()} bytes are left behind the value")
        return encode(found)

    return transcode


def _fields(schema: Any, named: dict[str, Any], measured: dict[str, tuple[int, bool] | None]) -> tuple[int, bool]:
    """How many values one of a parsed schema has at most, and whether it may take no bytes at all.

    Args:
        schema: by fastavro; a decimal in it becomes bytes.
        named: the schemas that have names.
        measured: those that were measured, None while they are.

    Raises:
        ValueError: it could run away.
    """
    if isinstance(schema, list):
        return 1 + max((_fields(one, named, measured)[0] for one in schema), default=0), False
    if isinstance(schema, str):
        return _fields(named[schema], named, measured) if schema in named else (1, schema == "null")
    if schema.get("logicalType") == "decimal":
        del schema["logicalType"]
    kind, name = schema["type"], schema.get("name", "")
    if kind in ("array", "map"):
        _, empty = _fields(schema["items" if kind == "array" else "values"], named, measured)
        if empty and kind == "array":
            raise ValueError("an array has items that take no bytes, of which a value may claim any number")
        return 1, False
    if kind == "fixed":
        return 1, schema["size"] == 0
    if kind not in ("record", "error"):
        return _fields(kind, named, measured) if isinstance(kind, dict | list) else (1, kind == "null")
    if name not in measured:
        measured[name] = None
        measured[name] = _fields_of_record(schema, named, measured)
    found = measured[name]
    if found is None:
        raise ValueError(f"{name} holds itself, so that a value may be of any depth")
    return found


def _fields_of_record(
    schema: Any, named: dict[str, Any], measured: dict[str, tuple[int, bool] | None]
) -> tuple[int, bool]:
    fields = [_fields(field["type"], named, measured) for field in schema["fields"]]
    count = 1 + sum(number for number, _ in fields)
    if count > MOST_FIELDS:
        raise ValueError(f"a record has more than {MOST_FIELDS:,} fields, with those of its fields")
    return count, all(empty for _, empty in fields)
