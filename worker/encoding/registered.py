"""Events in JSON behind the ID of their schema, as the Schema Registry has it.

One schema, of whatever format, holds both kinds of events, as a topic's values share one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from worker.encoding.json import JsonEncoder
from worker.registry.client import header

NAME = "cellstream.Event"


class RegisteredJsonEncoder(JsonEncoder):
    """The events of the codec `json` behind the ID of `json_schema`."""

    def __init__(self, classes: Sequence[str], model: str, schema_id: int, decisions: Sequence[str] = ()) -> None:
        super().__init__(classes, model, decisions, before=header(schema_id))


def json_schema(per_record: bool) -> str:
    """The schema of events, which are those of the codec `json`."""
    number: dict[str, Any] = {"type": ["number", "null"]}
    if per_record:
        number = {"type": "array", "items": number}
    whole, text = {"type": "integer"}, {"type": "string"}
    properties = {
        "stream_id": text, "sequence": text, "timestep": whole, "probability": number,
        "probabilities": {"type": "object", "additionalProperties": number}, "end_of_sequence": {"type": "boolean"},
        "reason": text, "length": whole, "timestamp": whole,
        "source": {"type": "array", "items": whole, "minItems": 2, "maxItems": 2}, "model": text, "decision": text,
        "decision_timestep": whole,
    }  # fmt: skip
    required = ["stream_id", "sequence", "timestamp", "source", "model"]
    draft = "http://json-schema.org/draft-07/schema#"
    schema = {"$schema": draft, "title": NAME, "type": "object", "properties": properties, "required": required}
    return json.dumps(schema)
