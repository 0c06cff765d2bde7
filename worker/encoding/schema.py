"""Which schema the events of a deployment have, and under which subject it is registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.encoding.avro import AvroEncoder, avro_schema
from worker.encoding.encoder import Encoder
from worker.encoding.protobuf import ProtobufEncoder, protobuf_schema
from worker.encoding.registered import NAME, RegisteredJsonEncoder, json_schema
from worker.registry.client import SCHEMA_TYPES, subject_of
from worker.settings import Settings

REGISTERED_ENCODERS: dict[str, Callable[[Sequence[str], str, int, Sequence[str]], Encoder]] = {
    "avro": AvroEncoder,
    "protobuf": ProtobufEncoder,
    "json-schema": RegisteredJsonEncoder,
}
SCHEMAS: dict[str, Callable[[bool], str]] = {
    "avro": avro_schema,
    "protobuf": protobuf_schema,
    "json-schema": json_schema,
}


def output_schema(settings: Settings) -> tuple[str, str, str]:
    """Subject, type and text of the schema of a deployment's events."""
    subject = subject_of(settings.output_subject, settings.output_topic, NAME)
    text = SCHEMAS[settings.output_codec](settings.output_per == "record")
    return subject, SCHEMA_TYPES[settings.output_codec], text
