"""The rights that a worker needs of a Kafka with an authorizer, and the words for one that is missing.

`READ` and `WRITE` include `DESCRIBE`. Idempotent producers need no right of their own since Kafka 3.0.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from worker.settings import Settings


@dataclass(frozen=True)
class Right:
    """One right of one principal.

    Attributes:
        operation: as Kafka's protocol spells it: READ, WRITE, DESCRIBE_CONFIGS.
        resource: `topic`, `group` or `transactional-id`, as kafka-acls.sh has it.
        name: of the resource.
        purpose: what the worker does with it.
        prefixed: whether `name` is the beginning of the names that are meant.
    """

    operation: str
    resource: str
    name: str
    purpose: str
    prefixed: bool = False

    def __str__(self) -> str:
        """`WRITE on topic probabilities`."""
        return f"{self.operation} on {self.resource} {self.name}{'*' if self.prefixed else ''}"

    def command(self, principal: str) -> str:
        """A line for kafka-acls.sh that grants it; the tool still wants to be told `--bootstrap-server`."""
        operation = "".join(word.capitalize() for word in self.operation.split("_"))
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return (
            f"kafka-acls.sh --add --allow-principal {_quoted(principal)} --operation {operation} "
            f"--{self.resource} {_quoted(self.name)}{pattern}"
        )


def worker_rights(settings: Settings) -> list[Right]:
    """The least that `cellstream run` needs, for all workers of a group."""
    rights = [
        Right("READ", "topic", settings.input_topic, "reads samples"),
        Right("WRITE", "topic", settings.output_topic, "writes probability events"),
        Right("WRITE", "topic", settings.dead_letter_topic, "writes refused records"),
        Right("READ", "group", settings.group_id, "is a member of the group and commits offsets"),
    ]
    return rights + _transactions(settings, settings.group_id)


def rekey_rights(settings: Settings, from_topic: str) -> list[Right]:
    """The least that `cellstream rekey` needs."""
    group_id = rekey_group(settings, from_topic)
    return [
        Right("READ", "topic", from_topic, "reads what is copied"),
        Right("WRITE", "topic", settings.input_topic, "writes the copies"),
        Right("WRITE", "topic", settings.dead_letter_topic, "writes refused records"),
        Right("READ", "group", group_id, "is a member of the group and commits offsets"),
        Right("WRITE", "transactional-id", f"{group_id}-", "commits copies and offsets together", prefixed=True),
    ]


def rekey_group(settings: Settings, from_topic: str) -> str:
    """The consumer group of `cellstream rekey`."""
    return f"{settings.group_id}-rekey-{from_topic}"


def retention_right(settings: Settings) -> Right:
    """Worth giving, but not needed: without it a compacted input is not noticed, nor a checkpoint that is too old."""
    purpose = "sees whether the input topic keeps what a state is made of"
    return Right("DESCRIBE_CONFIGS", "topic", settings.input_topic, purpose)


def lacking(missing: Sequence[Right | str]) -> str:
    """What to say of rights that are missing."""
    named = ", ".join(map(str, missing))
    return (
        f"this client's principal lacks the right: {named}. Grant it with kafka-acls.sh; `cellstream topics --acls` "
        "prints the lines for all that a worker needs (deploy/acls.md)"
    )


def _transactions(settings: Settings, prefix: str) -> list[Right]:
    if settings.delivery != "exactly_once":
        return []
    return [Right("WRITE", "transactional-id", f"{prefix}-", "commits events and offsets together", prefixed=True)]


def _quoted(name: str) -> str:
    """Safe to paste: a principal may be a distinguished name with commas and spaces."""
    return shlex.quote(name)
