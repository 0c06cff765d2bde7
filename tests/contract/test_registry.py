"""Samples and events through a real Schema Registry, written and read by confluent-kafka's own serializers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import json_format
from typer.testing import CliRunner

from tests.brokers.fixtures import TestCluster
from tests.brokers.process import Process
from tests.deployment import FEATURES, Deployment, Reader, read_all, until_read
from tests.registry.apicurio import apicurio
from tests.registry.test_protobuf import kind_of
from worker.cli import app
from worker.codecs.registered import RegisteredCodec
from worker.commands.topics import ensure_schema
from worker.encoding.protobuf import protobuf_schema
from worker.errors import Refused, TransientFault
from worker.formats import sample_codec
from worker.registry import client as registry_module
from worker.registry.client import HEADER_BYTES, header
from worker.settings import Settings

ROWS = [[0.5, 1.0, -1.25], [1.0, 2.0, 3.0], [0.0, 0.25, 0.125]]
READ_WITHIN_S = 400.0  # a worker has to start on a machine that does much else
Fields = dict[str, float]


def sample_schema(*names: str, kind: str = "float") -> str:
    fields = [{"name": name, "type": kind} for name in names]
    return json.dumps({"type": "record", "name": "Sample", "fields": [*fields]})


def sample_file(package: str, *names: str, kind: str = "float") -> str:
    fields = " ".join(f"{kind} {name} = {number};" for number, name in enumerate(names, start=1))
    return f'syntax = "proto3"; package {package}; message Other {{}} message Sample {{ {fields} }}'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    with apicurio(tmp_path_factory.mktemp("registry")) as running:
        yield running


def asking(url: str) -> SchemaRegistryClient:
    """A client that asks again where no answer comes: its own default waits for ever, and this registry loses some."""
    return SchemaRegistryClient({"url": url, "timeout": 10})


class AvroProducer:
    """Serializes with two schemas, and reads events."""

    kind = "AVRO"

    def __init__(self, client: SchemaRegistryClient, topic: str) -> None:
        self.place = SerializationContext(topic, MessageField.VALUE)
        self.old = AvroSerializer(client, sample_schema(*FEATURES))
        self.new = AvroSerializer(client, sample_schema("more", *reversed(FEATURES), kind="double"))
        self._read = AvroDeserializer(client)

    def write(self, fields: Fields, new: bool) -> bytes:
        written: bytes = (self.new if new else self.old)({"more": 7.0, **fields}, self.place)
        return written

    def read(self, event: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self._read(event, self.place)
        return found

    def late(self, number: int) -> str:
        """Another schema by which `new` writes the same bytes."""
        fields = [{"name": n, "type": "double"} for n in ("more", *reversed(FEATURES))]
        return json.dumps({"type": "record", "name": f"Late{number}", "fields": fields})


class ProtobufProducer(AvroProducer):
    """Likewise."""

    kind = "PROTOBUF"

    def __init__(self, client: SchemaRegistryClient, topic: str) -> None:
        self.place = SerializationContext(topic, MessageField.VALUE)
        self._old = kind_of(sample_file("old", *FEATURES), (1,))
        self._new = kind_of(sample_file("new", "more", *reversed(FEATURES), kind="double"), (1,))
        self.old, self.new = ProtobufSerializer(self._old, client), ProtobufSerializer(self._new, client)
        self._read = ProtobufDeserializer(kind_of(protobuf_schema(False), (0,)))

    def write(self, fields: Fields, new: bool) -> bytes:
        message = self._new(more=7.0, **fields) if new else self._old(**fields)
        written: bytes = (self.new if new else self.old)(message, self.place)
        return written

    def read(self, event: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json_format.MessageToDict(
            self._read(event, self.place), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return found

    def late(self, number: int) -> str:
        return sample_file(f"late{number}", "more", *reversed(FEATURES), kind="double")


@pytest.mark.slow
@pytest.mark.timeout(3 * READ_WITHIN_S)
@pytest.mark.parametrize(("codec", "killed"), [("avro", True), ("protobuf", False)])
def test_a_worker_answers_once_and_a_schema_that_is_registered_before_its_replay_changes_no_state(
    codec: str,
    killed: bool,
    registry: tuple[str, Process],
    kafka: TestCluster,
    artifact: Path,
    tmp_path: Path,
    keras_says: Callable[[Sequence[Sequence[float]]], list[float]],
) -> None:
    url, _ = registry
    flags = ("--output-codec", codec, "--schema-registry-url", url)
    deployment = Deployment.create(kafka, artifact, tmp_path, "--input-codec", codec, *flags)
    names = ("--bootstrap-servers", kafka.bootstrap_servers, "--input-topic", deployment.input_topic)
    names += ("--output-topic", deployment.output_topic, "--dead-letter-topic", deployment.dead_letter_topic)
    told = json.loads(CliRunner().invoke(app, ["topics", *names, *flags, "--json"]).stdout)
    assert told["schema"]["subject"] == f"{deployment.output_topic}-value"
    producer = Producer(kafka.conf)
    rows = ROWS * 4
    with asking(url) as client:
        pump = (AvroProducer if codec == "avro" else ProtobufProducer)(client, deployment.input_topic)
        values = [pump.write(dict(zip(FEATURES, row, strict=True)), new=i % 2 == 1) for i, row in enumerate(rows)]
        subject = f"{deployment.input_topic}-late"
        late_id = 1 + client.register_schema(subject, Schema(pump.late(0), pump.kind))
        late = header(late_id) + values[1][HEADER_BYTES:]

        def answer(values: Sequence[bytes], count: int, worker: Process) -> None:
            for value in values:
                producer.produce(deployment.input_topic, value, b"pump", partition=1)
            assert producer.flush(60) == 0
            until_read(outputs, count, worker, within_s=READ_WITHIN_S)
            until_read(dead_letters, 1, worker, within_s=READ_WITHIN_S)

        with (
            Reader(kafka, deployment.output_topic) as outputs,
            Reader(kafka, deployment.dead_letter_topic) as dead_letters,
        ):
            rest = values[6:]
            with deployment.worker() as worker:
                answer([*values[:6], late], 6, worker)
                if killed:
                    worker.kill()
                else:
                    answer(rest, len(rows), worker)
                    assert worker.stop() == 0, worker.tail()
            if killed:  # without a checkpoint: all is replayed
                assert client.register_schema(subject, Schema(pump.late(1), pump.kind)) == late_id
                rows = [*rows, ROWS[1]]
                with deployment.worker() as worker:
                    answer([*rest, late], len(rows), worker)
                    assert worker.stop() == 0, worker.tail()
        events = [pump.read(message.value()) for message in read_all(kafka, deployment.output_topic)]
    (letter,) = (dict(message.headers()) for message in read_all(kafka, deployment.dead_letter_topic))
    assert (letter["cellstream.reason"], letter["__streams.errors.offset"]) == (b"unknown_schema", b"6")
    assert [event["probability"] for event in events] == pytest.approx(keras_says(rows), abs=1e-6)
    offsets = [offset for offset in range(len(rows) + 1) if offset != 6]
    assert [(e["stream_id"], int(e["timestep"]), e["partition"], int(e["offset"])) for e in events] == [
        ("pump", step, 1, offset) for step, offset in enumerate(offsets)
    ]


@pytest.mark.parametrize(("codec", "kind"), [("avro", AvroProducer), ("protobuf", ProtobufProducer)])
def test_a_registry_that_is_gone_is_waited_for_and_what_is_known_goes_on(
    codec: str, kind: type[AvroProducer], registry: tuple[str, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, process = registry
    chosen = Settings(
        schema_registry_url=url,
        **dict.fromkeys(("input_codec", "output_codec"), codec),
        output_topic=f"events-{codec}",
    )
    with asking(url) as client:
        pump = kind(client, f"samples-{codec}")
        named = [dict(zip(FEATURES, row, strict=True)) for row in ROWS]
        values: list[bytes | None] = [pump.write(fields, new=i > 0) for i, fields in enumerate(named)]
    known, late = sample_codec(chosen, FEATURES), sample_codec(chosen, FEATURES)
    assert known.decode(values).inputs.tolist() == ROWS
    made = ensure_schema(chosen, create=True)
    assert ensure_schema(chosen, create=False) == made
    with asking(url) as client:
        client.set_compatibility(made["subject"], "BACKWARD")
    with pytest.raises(Refused, match=f"events-{codec}-value"):
        ensure_schema(chosen.model_copy(update={"output_per": "record"}), create=True)
    monkeypatch.setattr(registry_module, "WAIT_S", 0.0)
    process.freeze()  # connections stay open, and nothing answers
    try:
        assert known.decode(values).inputs.tolist() == ROWS
        with pytest.raises(TransientFault, match="does not answer"):
            late.decode(values[:1])
    finally:
        process.thaw()
    monkeypatch.undo()
    assert late.decode(values[:1]).inputs.tolist() == ROWS[:1]
    for opened in (known, late):
        assert isinstance(opened, RegisteredCodec)
        opened.objects.registry.close()
