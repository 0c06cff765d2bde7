"""The settings: one frozen object, and what of it fits together. `worker.settings.sources` builds it."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from worker.field_paths import field_path, parse_path, timestep_path

OutOfOrder: TypeAlias = Literal["accept", "drop", "dead_letter", "reset"] | None
REGISTERED = ("avro", "protobuf", "json-schema")
TOPIC = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")

# Delivery rests on these librdkafka properties; a pass-through could only break it.
GUARDED: dict[str, str] = {
    "bootstrap.servers": "set bootstrap_servers",
    "metadata.broker.list": "set bootstrap_servers",
    "group.id": "set group_id",
    "transactional.id": "it is derived from group_id and instance_id; set instance_id",
    "isolation.level": "the worker reads committed records only",
    "enable.auto.commit": "offsets are committed with the outputs they belong to",
    "enable.auto.offset.store": "offsets are committed with the outputs they belong to",
    "auto.offset.reset": "set start_from, or on_lost_offsets",
    "enable.idempotence": "set delivery",
    "acks": "set delivery",
    "request.required.acks": "set delivery",
    "max.in.flight": "set delivery",
    "max.in.flight.requests.per.connection": "set delivery",
    "check.crcs": "the worker always checks",
    "enable.partition.eof": "the worker does not use it",
    "delivery.report.only.error": "the worker depends on it",
    "enable.gapless.guarantee": "set delivery",
    "test.mock.num.brokers": "use `cellstream demo`, or the embedded broker of worker.kafka.embedded",
}


class Settings(BaseModel):
    """What a worker, or a command beside it, was told. Field names are a contract with scripts outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="Kafka brokers, HOST:PORT[,HOST:PORT]")
    group_id: str = Field("cellstream", min_length=1, max_length=200, description="consumer group of all workers")
    instance_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=200,
        description="stable name of this worker, unique in the group; its transactional.id comes from it [host name]",
    )
    workers: int = Field(1, ge=1, le=256, description="workers that this command runs, each in a process of its own")
    input_topic: Annotated[str, TOPIC] = Field("samples", description="topic of samples")
    output_topic: Annotated[str, TOPIC] = Field("probabilities", description="topic of probability events")
    dead_letter_topic: Annotated[str, TOPIC] = Field("samples.dlq", description="topic of refused records")
    artifact: Path | None = Field(None, description="directory of the trained artifact")
    checkpoints: str = Field(
        "checkpoints", min_length=1, description="directory or fsspec URL of the state checkpoints"
    )
    checkpoint_interval_s: float = Field(30.0, gt=0, description="seconds between checkpoints of one partition")
    checkpoint_interval_records: int | None = Field(
        None, ge=1, description="also checkpoint a partition after this many records [only by time]"
    )
    checkpoint_compression: Literal["none", "zstd"] = Field("none", description="how checkpoints are compressed")
    checkpoint_secret: str | None = Field(
        None, repr=False, description="key of 64 hex digits that encrypts checkpoints; several: all decrypt [none]"
    )
    checkpoints_kept: int = Field(3, ge=2, description="checkpoints kept for each partition, at least 2")
    delivery: Literal["exactly_once", "at_least_once"] = Field("exactly_once", description="delivery guarantee")
    commit_interval_ms: int = Field(100, ge=1, le=1000, description="milliseconds between commits")
    output_per: Literal["sample", "record"] = Field(
        "sample", description="an event for each sample, or one with lists for all samples of a record"
    )
    input_codec: Literal["json", "msgpack", "float32", "avro", "protobuf", "json-schema"] = Field(
        "json", description="codec of sample values"
    )
    output_codec: Literal["json", "msgpack", "avro", "protobuf", "json-schema"] = Field(
        "json", description="codec of probability values"
    )
    schema_registry_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        description="Schema Registry for avro, protobuf and json-schema; several with commas",
    )
    schema_registry_auth: str | None = Field(None, description="USER:PASSWORD for the Schema Registry [none]")
    output_subject: Literal["topic", "record", "topic_record"] = Field(
        "topic", description="naming strategy of the subject of the output schema"
    )
    missing: Literal["refuse", "zero", "last", "nan"] = Field(
        "refuse", description="what a missing (null) feature becomes"
    )
    stream_id_from: str = Field(
        "key",
        pattern=r"^(key|header:.+|field:.+)$",
        description="where the stream ID is: key, header:NAME or field:NAME",
    )
    features_from: tuple[str, ...] | None = Field(
        None, description="paths of the features in a value, or the one of a list of them: $.payload.acc[0],$.temp"
    )
    timestep_from: str | None = Field(
        None, description="where the producer's own count is: header:NAME, field:NAME or a path, $.seq [timestep]"
    )
    on_duplicate: OutOfOrder = Field(None, description="a timestep that was there already [not looked at]")
    on_late: OutOfOrder = Field(None, description="a timestep behind the last one that was not there [not looked at]")
    on_gap: OutOfOrder = Field(None, description="a timestep that comes too early [not looked at]")
    event_time_from: str | None = Field(None, description="path of the event time in a value [record timestamp]")
    sequence_length: int | None = Field(None, ge=1, description="end every sequence after this many samples [markers]")
    idle_timeout_s: float | None = Field(
        None, gt=0, description="end a sequence after this much silence in record time [never]"
    )
    cloudevents_source: str | None = Field(
        None,
        pattern=r"^[!-~]{1,512}$",
        description="give events the headers of CloudEvents, with this ce_source [none]",
    )
    closing_events: bool = Field(False, description="publish an event when a sequence ends")
    max_bad_ratio: float = Field(
        1.0, ge=0, le=1, description="stop when a larger share of the last records is bad; 1 = never"
    )
    max_streams_per_partition: int = Field(
        1_000_000, ge=1, description="live streams a partition may have; the least recently used goes first"
    )
    max_record_bytes: int = Field(1_048_576, ge=1, description="larger sample values are dead letters")
    max_samples_per_record: int = Field(10_000, ge=1, description="longer chunks are dead letters")
    start_from: Literal["earliest", "latest"] = Field("earliest", description="where a new group starts")
    on_lost_state: Literal["refuse", "rebuild", "fresh"] = Field(
        "refuse", description="no usable checkpoint: refuse, rebuild (replay what the log has) or fresh (empty state)"
    )
    on_lost_offsets: Literal["refuse", "checkpoint", "earliest", "latest"] = Field(
        "refuse", description="committed offsets vanished: refuse, or go on at the checkpoint, earliest or latest"
    )
    on_model_change: Literal["refuse", "rebuild", "fresh"] = Field(
        "refuse", description="checkpoint of another model: refuse, rebuild (replay through this one) or fresh"
    )
    on_new_partitions: Literal["refuse", "continue"] = Field(
        "refuse", description="partitions were added: refuse, or continue (streams that move begin anew)"
    )
    poll_records: int = Field(20_000, ge=1, le=100_000, description="most records handled at once")
    metrics_host: str = Field("127.0.0.1", description="interface of /metrics, /live and /ready")
    metrics_port: int = Field(9108, ge=0, le=65535, description="port of /metrics, /live and /ready; 0 = any free one")
    metrics_username: str | None = Field(
        None, min_length=1, pattern=r"^[^:]+$", description="login that /metrics asks for [none]"
    )
    metrics_password: str | None = Field(None, min_length=1, repr=False, description="password of that login")
    metrics_tls_certificate: Path | None = Field(None, description="PEM file: serve the pages by TLS [plain HTTP]")
    metrics_tls_key: Path | None = Field(None, description="PEM file of the certificate's key [in the same file]")
    metrics_tls_client_ca: Path | None = Field(
        None, description="PEM file: the pages ask for a certificate of this authority [for none]"
    )
    log_format: Literal["auto", "json", "console"] = Field("auto", description="json, or console for people")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe event logged")
    trace: Literal["off", "headers", "spans"] = Field(
        "off", description="carry traceparent headers on to the outputs; spans: and export a span for what is sampled"
    )
    trace_sampling_ratio: float = Field(
        0.0, ge=0, le=1, description="share of records without a traceparent that begin a trace"
    )
    kafka: dict[str, str] = Field(
        default_factory=dict, repr=False, description="librdkafka property, NAME=VALUE; may be repeated"
    )

    @field_validator("kafka", mode="before")
    @classmethod
    def _guard_properties(cls, properties: Any) -> Any:
        if not isinstance(properties, Mapping):
            raise ValueError("expected a table of librdkafka properties")
        named = {str(name).replace("_", "."): _text(value) for name, value in properties.items()}
        guarded = [f"kafka.{name} is not yours to set: {GUARDED[name]}" for name in named if name in GUARDED]
        if guarded:
            raise ValueError("; ".join(guarded))
        return named

    @field_validator("features_from", mode="before")
    @classmethod
    def _split_paths(cls, paths: Any) -> Any:
        return re.split(r"\s*,\s*(?=\$)", paths.strip()) if isinstance(paths, str) else paths

    @field_validator("features_from", "timestep_from", "event_time_from", "stream_id_from")
    @classmethod
    def _can_be_followed(cls, found: Any, field: ValidationInfo) -> Any:
        if field.field_name == "stream_id_from":
            field_path(found)
        elif field.field_name == "timestep_from":
            timestep_path(found)
        else:
            for path in (found,) if isinstance(found, str) else found or ():
                parse_path(path)
        return found

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if len({self.input_topic, self.output_topic, self.dead_letter_topic}) < 3:
            raise ValueError("input_topic, output_topic and dead_letter_topic must be three different topics")
        if self.input_codec == "float32" and self.stream_id_from.startswith("field:"):
            raise ValueError(
                "stream_id_from: float32 values have no fields; take the stream ID from key or header:NAME"
            )
        if (self.metrics_username is None) != (self.metrics_password is None):
            raise ValueError("metrics_username and metrics_password (or its file) make a login together: set both")
        lonely = [name for name in ("metrics_tls_key", "metrics_tls_client_ca") if getattr(self, name)]
        if lonely and not self.metrics_tls_certificate:
            raise ValueError(f"{', '.join(lonely)}: without a certificate there is no TLS; set metrics_tls_certificate")
        if self.trace_sampling_ratio and self.trace != "spans":
            raise ValueError("trace_sampling_ratio: what is sampled are spans; set trace=spans")
        registered = [name for name in ("input_codec", "output_codec") if getattr(self, name) in REGISTERED]
        if registered and self.schema_registry_url is None:
            raise ValueError(f"{', '.join(registered)}: set schema_registry_url")
        named = {name: getattr(self, name) for name in ("features_from", "timestep_from", "event_time_from")}
        mapped = [name for name, where in named.items() if where and not str(where).startswith("header:")]
        if self.input_codec == "float32" and mapped:
            raise ValueError(f"{', '.join(mapped)}: float32 values have no fields")
        if self.input_codec == "float32" and self.judges_order and self.timestep_from is None:
            raise ValueError("on_duplicate, on_late, on_gap: float32 values have no fields; timestep_from=header:NAME")
        return self

    def kafka_conf(self) -> dict[str, str]:
        """The properties that every client of this process starts from."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.kafka}

    @property
    def judges_order(self) -> bool:
        """Whether the records' own timesteps are looked at."""
        return (self.on_duplicate, self.on_late, self.on_gap) != (None, None, None)

    @property
    def transactional_id(self) -> str:
        """Stable and unique for each worker of the group (RELIABILITY rule 8)."""
        return f"{self.group_id}-{self.instance_id}"


def _text(value: Any) -> str:
    """TOML booleans and numbers as librdkafka writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
