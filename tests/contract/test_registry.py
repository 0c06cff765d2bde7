"""Samples through a real Schema Registry, written by confluent-kafka's own serializers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.brokers.process import Process
from tests.deployment import FEATURES
from tests.registry.apicurio import apicurio
from worker import registry as registry_module
from worker.assembly import _codec
from worker.codecs.registered import RegisteredCodec
from worker.commands.topics import ensure_schema
from worker.errors import Refused, TransientFault
from worker.settings import Settings

ROWS = [[0.5, 1.0, -1.25], [1.0, 2.0, 3.0], [0.0, 0.25, 0.125]]


def sample_schema(*names: str, kind: str = "float") -> str:
    fields = [{"name": name, "type": kind} for name in names]
    return json.dumps({"type": "record", "name": "Sample", "fields": [*fields]})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    with apicurio(tmp_path_factory.mktemp("registry")) as running:
        yield running


def written(url: str, topic: str) -> list[bytes]:
    """The rows as samples; after the first one the producer has another schema."""
    place = SerializationContext(topic, MessageField.VALUE)
    named = [{"more": 7.0, **dict(zip(FEATURES, row, strict=True))} for row in ROWS]
    with SchemaRegistryClient({"url": url}) as client:
        old = AvroSerializer(client, sample_schema(*FEATURES))
        new = AvroSerializer(client, sample_schema("more", *reversed(FEATURES), kind="double"))
        return [old(named[0], place), *(new(row, place) for row in named[1:])]


def test_a_registry_that_is_gone_is_waited_for_and_what_is_known_goes_on(
    registry: tuple[str, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, process = registry
    chosen = Settings(schema_registry_url=url, input_codec="avro", output_codec="avro", output_topic="events")
    first, second, third = written(url, "samples")
    codec, late = _codec(chosen, FEATURES), _codec(chosen, FEATURES)
    assert codec.decode([first, second, third]).inputs.tolist() == ROWS
    made = ensure_schema(chosen, create=True)
    assert ensure_schema(chosen, create=False) == made
    with SchemaRegistryClient({"url": url}) as client:
        client.set_compatibility(made["subject"], "BACKWARD")
    with pytest.raises(Refused, match="events-value"):
        ensure_schema(chosen.model_copy(update={"output_per": "record"}), create=True)
    monkeypatch.setattr(registry_module, "WAIT_S", 0.0)
    process.freeze()  # connections stay open, and nothing answers
    try:
        assert codec.decode([first, second, third]).inputs.tolist() == ROWS
        with pytest.raises(TransientFault, match="does not answer"):
            late.decode([first])
    finally:
        process.thaw()
    monkeypatch.undo()
    assert late.decode([first]).inputs.tolist() == ROWS[:1]
    for opened in (codec, late):
        assert isinstance(opened, RegisteredCodec)
        opened.registry.close()
