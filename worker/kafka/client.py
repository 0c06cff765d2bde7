"""What both ends of the client share: properties, and errors in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from worker.errors import FatalFault, UsageError

ClientT = TypeVar("ClientT")


def consumer_properties(conf: Mapping[str, str]) -> dict[str, str]:
    """Pass-through properties that a consumer knows."""
    return {name: value for name, value in conf.items() if not name.startswith(PRODUCER_ONLY)}


def new_client(kind: Callable[..., ClientT], conf: Mapping[str, Any], **arguments: Any) -> ClientT:
    """Build a client.

    Raises:
        UsageError: a property does not exist, has a bad value, or contradicts another.
    """
    try:
        return kind(dict(conf), **arguments)
    except KafkaException as fault:
        raise UsageError(f"kafka: {fault.args[0].str()}") from None


def client_properties(conf: Mapping[str, str]) -> dict[str, str]:
    """Pass-through properties that every client knows."""
    return consumer_properties(producer_properties(conf))


def producer_properties(conf: Mapping[str, str]) -> dict[str, str]:
    """Pass-through properties that a producer knows."""
    return {name: value for name, value in conf.items() if not name.startswith(CONSUMER_ONLY)}


def fatal(what: str, error: KafkaError) -> FatalFault:
    """A client error that ends the process, in words."""
    return FatalFault(f"{what}: {error.name()}: {error.str()}")


# librdkafka warns of every property that the other kind of client would know.
PRODUCER_ONLY = (
    "queue.buffering", "linger.", "batch.", "message.timeout", "delivery.timeout", "compression.", "retries",
    "message.send", "request.required", "request.timeout", "sticky.", "partitioner", "transaction.", "acks",
)  # fmt: skip
CONSUMER_ONLY = (
    "group.", "session.", "heartbeat.", "partition.assignment", "max.poll", "fetch.", "queued.", "offset.store",
    "coordinator.query", "consume.",
)  # fmt: skip
