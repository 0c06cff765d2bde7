"""How samples are read and events are written, as the settings say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from worker.artifact import RESERVED_FEATURES
from worker.codecs import Codec, Float32Codec, JsonCodec, MappedCodec, MsgpackCodec
from worker.codecs.objects import ObjectCodec
from worker.codecs.registered import RegisteredCodec
from worker.encoding.cloud_events import CloudEvents
from worker.encoding.encoder import Encoder
from worker.encoding.json import JsonEncoder
from worker.encoding.msgpack import MsgpackEncoder
from worker.encoding.schema import REGISTERED_ENCODERS, output_schema
from worker.errors import Refused, UsageError
from worker.event_writer import EventWriter
from worker.field_paths import field_path, parse_path, timestep_path
from worker.reading import Reader
from worker.registry.client import SCHEMA_TYPES
from worker.registry.judge import SchemaJudge
from worker.registry.values import registered_values, settings_registry
from worker.settings import Settings

ENCODERS: dict[str, Callable[[Sequence[str], str, Sequence[str]], Encoder]] = {
    "json": JsonEncoder,
    "msgpack": MsgpackEncoder,
}
CONTENT_TYPES = {
    "json": "application/json",
    "msgpack": "application/msgpack",
    "avro": "application/vnd.confluent.avro",
    "protobuf": "application/vnd.confluent.protobuf",
    "json-schema": "application/vnd.confluent.json",
}


def new_reader(settings: Settings, features: tuple[str, ...]) -> Reader:
    """What reads the samples.

    Raises:
        UsageError: the settings do not fit the artifact's features.
    """
    codec, judge = sample_codec(settings, features), None
    if isinstance(codec, RegisteredCodec):
        judge = SchemaJudge(codec.objects, settings.input_topic, drop_lost=settings.on_lost_state != "refuse")
    return Reader(codec, settings.stream_id_from, _timestep_header(settings), judge)


def new_writer(settings: Settings, classes: Sequence[str], model: str, decisions: Sequence[str]) -> EventWriter:
    """What writes the events and the headers beside them.

    Raises:
        Refused: their schema is not registered.
    """
    headers = None
    if settings.cloudevents_source is not None:
        headers = CloudEvents(settings.cloudevents_source, CONTENT_TYPES[settings.output_codec])
    encoder = event_encoder(settings, classes, model, decisions)
    return EventWriter(encoder, settings.closing_events, settings.output_per == "record", headers)


def sample_codec(settings: Settings, features: tuple[str, ...]) -> Codec:
    """The codec of the samples; see `new_reader`."""
    limits = settings.max_record_bytes, settings.max_samples_per_record
    stream_id = field_path(settings.stream_id_from)
    if stream_id is not None and len(stream_id) == 1 and stream_id[0] in (*features, *RESERVED_FEATURES):
        raise UsageError(f"--stream-id-from {settings.stream_id_from}: that field holds something else of a sample")
    if settings.input_codec == "float32":
        return Float32Codec(len(features), *limits, settings.missing)
    if settings.input_codec in SCHEMA_TYPES:
        plain = _object_codec(settings, features, JsonCodec if settings.input_codec == "json-schema" else MsgpackCodec)
        return RegisteredCodec(plain, registered_values(settings, settings.input_codec))
    return _object_codec(settings, features, MsgpackCodec if settings.input_codec == "msgpack" else JsonCodec)


def event_encoder(settings: Settings, classes: Sequence[str], model: str, decisions: Sequence[str] = ()) -> Encoder:
    """The encoder of the events.

    Raises:
        Refused: their schema is not registered.
    """
    if settings.output_codec in ENCODERS:
        return ENCODERS[settings.output_codec](classes, model, decisions)
    wanted = output_schema(settings)
    with settings_registry(settings) as registry:
        schema_id = registry.registered(*wanted)
    if schema_id is None:
        raise Refused(
            f"the schema of the events is not registered as {wanted[0]}. Register it with `cellstream topics`"
        )
    return REGISTERED_ENCODERS[settings.output_codec](classes, model, schema_id, decisions)


def _object_codec(settings: Settings, features: tuple[str, ...], kind: type[ObjectCodec]) -> Codec:
    limits = settings.max_record_bytes, settings.max_samples_per_record
    stream_id = field_path(settings.stream_id_from)
    codec = partial(
        kind,
        features,
        *limits,
        missing=settings.missing,
        timesteps=settings.judges_order and _timestep_header(settings) is None,
    )
    nested = stream_id is not None and len(stream_id) > 1
    timestep = timestep_path(settings.timestep_from)
    if not (nested or settings.features_from or timestep is not None or settings.event_time_from):
        return codec(stream_id_field=None if stream_id is None else str(stream_id[0]))
    paths = None if settings.features_from is None else [parse_path(path) for path in settings.features_from]
    if paths is not None and len(paths) not in (1, len(features)):
        raise UsageError(
            f"--features-from: {len(paths)} paths; expected one for each of the artifact's {len(features)} features, "
            "in their order, or a single one of a list of them all"
        )
    event_time = None if settings.event_time_from is None else parse_path(settings.event_time_from)
    return MappedCodec(codec(), paths, stream_id, timestep, event_time)


def _timestep_header(settings: Settings) -> str | None:
    kind, _, name = (settings.timestep_from or "").partition(":")
    return name if kind == "header" and settings.judges_order else None
