"""Protobuf -> the same object in MessagePack, by schemas of a registry.

A registry has a schema as the text of a .proto file, which is compiled by protoc, or, where confluent-kafka has
registered it, as its descriptor. Between the ID and the message stand numbers that say which of the schema's messages
it is. A field that cannot be absent (proto3 without `optional`) and was not written has its default, as ever.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from worker.errors import BadRecord, TransientFault, UsageError
from worker.registry.client import HEADER_BYTES, Registry
from worker.varints import read_zigzag

COMPILED_WITHIN_S = 30.0
MOST_LEVELS, LAST_PLACE = 32, 2**31 - 1
MOST_VALUES = 1_000_000  # fields of all messages in a value, written or not
TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
}
OWN_FILE = "cellstream-value.proto"  # no schema imports that
KNOWN_FILES = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")

Convert = Callable[[Any], Any]


def protobuf_transcoder(schema: Any, registry: Registry) -> Callable[[bytes], bytes]:
    """The function that turns values of a schema, with its ID in front, into MessagePack.

    Raises:
        BadRecord: the schema, or one that it refers to, is none.
    """
    try:
        if find_spec("grpc_tools") is None:
            raise ImportError("no module named grpc_tools")
        from google.protobuf import descriptor_pool, message_factory
        from google.protobuf.message import DecodeError
    except ImportError as fault:
        raise UsageError(f"protobuf needs the extra: pip install 'cellstream[registry]' ({fault})") from None
    pool = descriptor_pool.DescriptorPool()
    try:
        files = _files(schema, registry)
        for file in files.values():
            pool.Add(file)
        main = list(files.values())[-1]
        pool.FindFileByName(main.name)
    except (ValueError, TypeError, KeyError, DecodeError) as fault:
        raise BadRecord("unknown_schema", f"the schema cannot be used: {fault}"[:300]) from None
    encode = msgspec.msgpack.Encoder().encode
    readers: dict[tuple[int, ...], tuple[Any, _Messages]] = {}

    def reader(path: tuple[int, ...]) -> tuple[Any, _Messages]:
        message, name = main.message_type[path[0]], main.package
        name = f"{name}.{message.name}" if name else message.name
        for index in path[1:]:
            message = message.nested_type[index]
            name += f".{message.name}"
        kind = pool.FindMessageTypeByName(name)
        readers[path] = message_factory.GetMessageClass(kind).FromString, _Messages(kind)
        return readers[path]

    def transcode(value: bytes) -> bytes:
        try:
            path, begin = _message_path(value)
            parse, messages = readers.get(path) or reader(path)
        except (ValueError, IndexError) as fault:
            raise BadRecord("not_protobuf", f"names no message of its schema: {fault}") from None
        try:
            return encode(messages.object(parse(value[begin:])))
        except (DecodeError, ValueError, OverflowError) as fault:
            raise BadRecord("not_protobuf", f"not of its schema: {type(fault).__name__}: {fault}"[:300]) from None

    return transcode


class _Messages:
    """Messages of one kind as objects.

    Args:
        kind: descriptor of the message.
    """

    def __init__(self, kind: Any) -> None:
        self._made: dict[str, Convert] = {}
        self._left = 0
        self._convert = self._converter(kind)

    def object(self, message: Any) -> Any:
        """A message as an object of plain values.

        Raises:
            ValueError: it has too many.
        """
        self._left = MOST_VALUES
        return self._convert(message)

    def _converter(self, kind: Any) -> Convert:
        if kind.full_name == TIMESTAMP:
            return lambda message: message.ToDatetime(tzinfo=UTC)
        if kind.full_name in WRAPPERS:
            return lambda message: message.value
        if kind.full_name in self._made:
            return self._made[kind.full_name]
        defaults: dict[str, Any] = {}
        converters: dict[int, Convert | None] = {}

        def convert(message: Any) -> dict[str, Any]:
            self._left -= len(converters)
            if self._left < 0:
                raise ValueError(f"more than {MOST_VALUES:,} values")
            found = defaults.copy()
            for field, value in message.ListFields():
                each = converters[field.number]
                found[field.name] = value if each is None else each(value)
            return found

        self._made[kind.full_name] = convert
        for field in kind.fields:
            each = converters[field.number] = self._of_field(field)
            if not (field.is_repeated or field.has_presence):
                defaults[field.name] = field.default_value if each is None else each(field.default_value)
        return convert

    def _of_field(self, field: Any) -> Convert | None:
        """What a field's value becomes; None where it stays as it is."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            each = self._of_field(kind.fields_by_name["value"])
            return lambda values: {str(key): values[key] if each is None else each(values[key]) for key in values}
        if kind is not None and field.is_repeated and len(kind.fields) == 1 and kind.fields[0].is_repeated:
            (row,) = kind.fields  # a list of lists, for which Protobuf has no other word
            convert = self._converter(kind)
            return lambda values: [convert(value).get(row.name, []) for value in values]
        single: Convert | None = None
        if kind is not None:
            single = self._converter(kind)
        elif field.enum_type is not None:
            names = field.enum_type.values_by_number
            single = lambda number: names[number].name if number in names else number  # noqa: E731 - as the others
        if not field.is_repeated:
            return single
        return list if single is None else lambda values: list(map(single, values))


def _message_path(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message a value is, by its place in the schema and in the messages around it, and where it begins."""
    count, place = read_zigzag(value, HEADER_BYTES)
    if count == 0:  # short for the first one
        return (0,), place
    if not 0 < count <= MOST_LEVELS:
        raise ValueError(f"{count} levels")
    path = []
    for _ in range(count):
        index, place = read_zigzag(value, place)
        if not 0 <= index <= LAST_PLACE:
            raise ValueError(f"place {index}")
        path.append(index)
    return tuple(path), place


def _files(schema: Any, registry: Registry, name: str = "cellstream/value.proto") -> dict[str, Any]:
    """The files of a schema, by name, each behind those that it imports; the schema's own is the last."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    files: dict[str, Any] = {known.name: known for known in _known_files()}
    for reference in schema.references or ():
        found = registry.version(reference.subject, reference.version)
        files |= {other: file for other, file in _files(found, registry, reference.name).items() if other not in files}
    try:
        own = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
    except (ValueError, DecodeError):  # it is text, then
        own = _compiled(schema.schema_str, name, files)
    own.name = name
    files.pop(name, None)
    return {**files, name: own}


def _known_files() -> Iterator[Any]:
    """Those of Protobuf itself, which are in no registry."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    for name in KNOWN_FILES:
        known = FileDescriptorProto()
        import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(known)
        yield known


def _compiled(text: str, name: str, others: dict[str, Any]) -> Any:
    """A .proto file by protoc, in a process of its own: beside TensorFlow's own Protobuf it ends the process.

    Raises:
        ValueError: it cannot be compiled.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory(prefix="cellstream-") as scratch:
        directory = Path(scratch)
        (directory / OWN_FILE).write_text(text, encoding="utf-8")
        (directory / "others").write_bytes(FileDescriptorSet(file=others.values()).SerializeToString())
        into = directory / "compiled"
        paths = [f"--proto_path={directory}", f"--descriptor_set_in={directory / 'others'}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *paths, f"--descriptor_set_out={into}", OWN_FILE]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=COMPILED_WITHIN_S, check=False)
        except subprocess.TimeoutExpired:
            raise TransientFault(f"protoc did not end within {COMPILED_WITHIN_S:g} s") from None
        if run.returncode:
            raise ValueError(f"{name} is no .proto file that protoc compiles: {run.stderr.strip()[:200]}")
        return FileDescriptorSet.FromString(into.read_bytes()).file[0]
