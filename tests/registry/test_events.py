"""Events with schemas say what those in JSON say, and their schema is registered by `topics`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import fastavro
import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.registry.small import SmallRegistry, of
from tests.registry.test_protobuf import kind_of
from worker.codecs.avro import avro_transcoder
from worker.codecs.protobuf import protobuf_transcoder
from worker.commands.event_view import json_of_registered, parse_event
from worker.commands.topics import ensure_schema
from worker.encoding.avro import AvroEncoder, avro_schema
from worker.encoding.encoder import Answers
from worker.encoding.json import JsonEncoder
from worker.encoding.protobuf import ProtobufEncoder, protobuf_schema
from worker.encoding.registered import RegisteredJsonEncoder
from worker.errors import Refused, UsageError
from worker.formats import event_encoder
from worker.registry.client import Registry, header
from worker.settings.sources import load_settings
from worker.state.sequences import REASONS, Closing

no_registry: Any = None  # of schemas that refer to no other
LAX = settings(max_examples=60, deadline=None)

probabilities = st.one_of(st.floats(0, 1, width=32), st.sampled_from([float("nan")]))
events = st.lists(
    st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 2**40), st.integers(0, 2), st.integers(0, 2**62)),
    min_size=1,
    max_size=4,
)


@given(events, st.integers(1, 3), st.booleans(), st.integers(-1, 2**42), st.data())
@LAX
def test_events_with_schemas_say_what_those_in_json_say(
    found: list[tuple[str, int, int, int]], classes: int, per_record: bool, time: int, data: Any
) -> None:
    names = [f"class {i}" for i in range(classes)]
    encoders = [
        JsonEncoder(names, "abc", names),
        RegisteredJsonEncoder(names, "abc", 7, names),
        AvroEncoder(names, "abc", 8, names),
        ProtobufEncoder(names, "abc", 9, names),
    ]
    decided_at = data.draw(st.none() | st.integers(0, 2**40))
    counts = np.array([data.draw(st.integers(1, 70)) for _ in found]) if per_record else None
    size = len(found) if counts is None else int(counts.sum())
    outputs = np.array(data.draw(st.lists(probabilities, min_size=size * classes, max_size=size * classes)), np.float32)
    outputs = outputs.reshape(size, classes)
    told = []
    for encoder in encoders:
        prefixes = [encoder.prefix(name.encode(), 3, start, sample) for name, start, sample, _ in found]
        steps, offsets = np.array([n for *_, n in found]), [start + 1 for _, start, *_ in found]
        values = encoder.encode(Answers(3, prefixes, steps, outputs, [time] * len(found), offsets, counts))
        values[0] = encoder.decided(values[0], classes - 1, decided_at)
        for name, start, sample, n in found:
            over = Closing(0, 0, True, name.encode(), start, sample, n % 1000 + 1, 1 + n % (len(REASONS) - 1))
            values.append(encoder.closing(3, over, time, start + 1))
        told.append(values)
    assert [header(7) + value for value in told[0]] == told[1]
    schema = fastavro.parse_schema(json.loads(avro_schema(per_record)))
    for value, packed in zip(told[0], told[2], strict=True):
        stream = BytesIO(packed[5:])
        event = fastavro.schemaless_reader(stream, schema, None)
        assert packed[:5] == header(8)
        assert stream.tell() == len(packed) - 5
        event["source"] = [event.pop("partition"), event.pop("offset")]
        expected = json.loads(value)
        assert in_float32({k: v for k, v in event.items() if v is not None}) == in_float32(
            {k: v for k, v in expected.items() if v is not None}
        )

    for value, packed in zip(told[0], told[3], strict=True):
        event = protobuf_object(protobuf_schema(per_record), packed)
        event["source"] = [event.pop("partition"), event.pop("offset")]
        expected = json.loads(value)
        if per_record and "probabilities" in expected:
            event["probabilities"] = {name: found["values"] for name, found in event["probabilities"].items()}
        assert packed[:6] == header(9) + b"\0"
        assert in_float32(event) == in_float32(with_nan(expected))
    avro = avro_transcoder(SimpleNamespace(schema_str=avro_schema(per_record), references=[]), no_registry)
    protobuf = kind_transcoder(protobuf_schema(per_record))
    for value, *packed_by in zip(told[0], told[2], told[3], strict=True):
        for transcode, packed in zip((avro, protobuf), packed_by, strict=True):
            assert watched(json_of_registered(transcode(packed))) == watched(value)


@cache
def kind_transcoder(schema: str) -> Callable[[bytes], bytes]:
    return protobuf_transcoder(SimpleNamespace(schema_str=schema, references=[]), no_registry)


def watched(event: bytes) -> Any:
    """What `cellstream watch` shows of an event."""
    found = parse_event(event)
    if found is None:
        return None
    return found.stream_id, found.timestep, found.ended, {name: np.float32(p) for name, p in found.values}


def protobuf_object(schema: str, packed: bytes) -> Any:
    """By Google's own reader."""
    kind = kind_of(schema, (0,))
    event = json_format.MessageToDict(
        kind.FromString(packed[6:]), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for name in ("timestep", "length", "timestamp", "offset", "decision_timestep"):  # that mapping writes them as texts
        if name in event:
            event[name] = int(event[name])
    return {name: found for name, found in event.items() if found not in ([], {})}


def with_nan(expected: Any) -> Any:
    """Of an event in JSON, a number that the model did not give as Protobuf writes it."""
    for name in ("probability", "probabilities"):
        if name in expected:
            expected[name] = json.loads(json.dumps(expected[name]).replace("null", "NaN"))
    return expected


def in_float32(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: in_float32(value) for name, value in found.items()}
    if isinstance(found, list):
        return [in_float32(value) for value in found]
    if found == "NaN" or isinstance(found, float):
        return "NaN" if found == "NaN" or np.isnan(found) else float(np.float32(found))
    return found


def test_the_schema_of_the_events_is_registered_by_topics_and_found_by_the_worker(registry: SmallRegistry) -> None:
    kinds = {"avro": AvroEncoder, "protobuf": ProtobufEncoder, "json-schema": RegisteredJsonEncoder}
    for codec, kind in kinds.items():
        chosen = of(registry, "avro", output_topic=f"out-{codec}").model_copy(update={"output_codec": codec})
        with pytest.raises(Refused, match=f"out-{codec}-value.*cellstream topics"):
            event_encoder(chosen, ("p",), "abc")
        assert ensure_schema(chosen, create=False) == {"subject": f"out-{codec}-value", "id": None}
        made = ensure_schema(chosen, create=True)
        assert made == ensure_schema(chosen, create=True) == ensure_schema(chosen, create=False)
        encoder = event_encoder(chosen, ("p",), "abc")
        assert type(encoder) is kind
        closing = encoder.closing(0, Closing(0, 0, True, b"a", 1, 0, 1, 1), 5, 6)
        assert closing[:5] == header(made["id"])


@pytest.mark.parametrize(
    ("strategy", "subject"),
    [("topic", "t-value"), ("record", "cellstream.Event"), ("topic_record", "t-cellstream.Event")],
)
def test_a_subject_is_named_as_confluents_serializers_name_it(
    registry: SmallRegistry, strategy: Any, subject: str
) -> None:
    made = ensure_schema(of(registry, "avro", output_topic="t", output_subject=strategy), create=True)
    assert made["subject"] == subject


def test_a_codec_with_schemas_needs_a_registry() -> None:
    with pytest.raises(UsageError, match="schema_registry_url"):
        load_settings({"input_codec": "avro"}, {}, None)
    with pytest.raises(UsageError, match="schema_registry_url"):
        Registry("nonsense")
