"""What a broken law leaves behind, as files: every record of a deployment's topics, and its offsets."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from confluent_kafka import Message

from tests.chaos.checker.reading import partitions_of, read_all
from tests.deployment import Deployment


def keep_topics(deployment: Deployment, directory: Path) -> None:
    """Write input, output and dead letters as one line of JSON for each record, and the committed offsets."""
    directory.mkdir(parents=True, exist_ok=True)
    topics = {
        "input": deployment.input_topic,
        "output": deployment.output_topic,
        "dead-letters": deployment.dead_letter_topic,
    }
    (directory / "committed.json").write_text(json.dumps(deployment.committed()))
    for name, topic in topics.items():
        messages = read_all(deployment.cluster, topic, partitions_of(deployment.cluster, topic))
        with (directory / f"{name}.jsonl").open("w") as file:
            for message in messages:
                file.write(json.dumps(_record(message)) + "\n")


def _record(message: Message) -> dict[str, object]:
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": _text(message.key()),
        "value": _text(message.value()),
        "headers": [(name, _text(value)) for name, value in message.headers() or []],
    }


def _text(content: bytes | None) -> str | None:
    """As text where it is text, else as base64 behind a prefix."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(content).decode()
