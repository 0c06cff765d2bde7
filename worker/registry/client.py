"""Schemas from a Schema Registry: by their IDs, each asked for once, and the wire format that names them.

A value is a zero byte, the schema's ID as four bytes, and the rest in the schema's own format. What an ID means never
changes in a registry, so that a replay reads the same; only an ID that nobody knew may be known later, and is asked for
again after a while. A registry that does not answer is no fault of a record: it is waited for, and then the poll's work
is given up and done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from worker.errors import BadRecord, FatalFault, Refused, TransientFault, UsageError

log = logging.getLogger(__name__)  # which a command that prints JSON does not mix with it

SCHEMA_TYPES = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}  # codec -> the registry's word
MAGIC = b"\0"
HEADER_BYTES = 5
NOT_FOUND = 404
REFUSED = (401, 403)
REQUEST_TIMEOUT_S = 3
WAIT_S = 6.0
PAUSE_S = 0.25
UNKNOWN_FOR_S = 30.0
MOST_UNKNOWN = 1_000

T = TypeVar("T")


class Registry:
    """A registry, through confluent-kafka's client.

    Args:
        url: of its Confluent-compatible API; several with commas.
        auth: USER:PASSWORD, or None.
        clock: monotonic seconds.

    Raises:
        UsageError: the extra `registry` is not installed, or the address is none.
    """

    def __init__(self, url: str, auth: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
            from confluent_kafka.schema_registry.common._httpx_compat import httpx
        except ImportError as fault:
            raise UsageError(f"schemas need the extra: pip install 'cellstream[registry]' ({fault})") from None
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request
        conf = {"url": url, "timeout": REQUEST_TIMEOUT_S, "max.retries": 0}
        try:
            self._client: Any = SchemaRegistryClient(conf | ({"basic.auth.user.info": auth} if auth else {}))
        except ValueError as fault:
            raise UsageError(f"schema_registry_url: {fault}") from None
        self._schema = Schema
        self._answered_wrongly = SchemaRegistryError
        self._not_answered = (httpx.HTTPError, OSError)
        self._clock = clock
        self._known: dict[int, Any] = {}
        self._unknown: dict[int, float] = {}  # ID -> until when it is not asked for again

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()

    def schema(self, schema_id: int, expected: bool = False) -> Any:
        """A schema, with the attributes `schema_type`, `schema_str` and `references`.

        Args:
            schema_id: in this registry.
            expected: it was there before, so that one of its replicas that has not heard of it yet is waited for.

        Raises:
            BadRecord: the registry has none of that ID.
            TransientFault: it does not answer.
        """
        if schema_id not in self._known:
            if expected or self._unknown.get(schema_id, self._clock()) <= self._clock():
                found = self._answer(lambda: self._client.get_schema(schema_id), expected)
                if found is not None:
                    self._known[schema_id] = found
                    return found
                if len(self._unknown) >= MOST_UNKNOWN:
                    self._unknown.clear()
                self._unknown[schema_id] = self._clock() + UNKNOWN_FOR_S
            raise BadRecord("unknown_schema", f"the schema registry has no schema of ID {schema_id}")
        return self._known[schema_id]

    def version(self, subject: str, version: int) -> Any:
        """A schema that another one refers to; raises as `schema`."""
        found = self._answer(lambda: self._client.get_version(subject, version))
        if found is None:
            raise BadRecord("unknown_schema", f"the schema registry has no version {version} of {subject}")
        return found.schema

    def register(self, subject: str, schema_type: str, text: str) -> int:
        """Register a schema, or find it registered; returns its ID.

        Raises:
            Refused: it is not compatible with the subject's others.
        """
        schema = self._schema(text, schema_type)
        try:
            found = self._answer(lambda: int(self._client.register_schema(subject, schema)))
        except FatalFault as fault:
            raise Refused(f"subject {subject}: {fault}") from None
        if found is None:
            raise Refused(f"subject {subject}: schema_registry_url leads to no schema registry")
        return found

    def registered(self, subject: str, schema_type: str, text: str) -> int | None:
        """The ID of a schema under a subject; None where it is not registered."""
        found = self._answer(lambda: self._client.lookup_schema(subject, self._schema(text, schema_type)))
        return None if found is None else int(found.schema_id)

    def _answer(self, ask: Callable[[], T], expected: bool = False) -> T | None:
        """What the registry answers; None where it does not have it: after a while, if it is expected to."""
        deadline = self._clock() + WAIT_S
        while True:
            try:
                return ask()
            except self._answered_wrongly as fault:
                if fault.http_status_code == NOT_FOUND and (not expected or self._clock() > deadline):
                    return None
                if fault.http_status_code in REFUSED:
                    raise FatalFault(f"the schema registry refuses this client: {fault}") from None
                if fault.http_status_code < 500 and fault.http_status_code != NOT_FOUND:
                    raise FatalFault(f"the schema registry: {fault}") from None
                reason = str(fault)
            except self._not_answered as fault:
                reason = f"{type(fault).__name__}: {fault}"
            if self._clock() > deadline:
                raise TransientFault(f"the schema registry does not answer: {reason}")
            log.warning("the schema registry does not answer: %s; again", reason)
            time.sleep(PAUSE_S)


def header(schema_id: int) -> bytes:
    """What stands before a value."""
    return MAGIC + schema_id.to_bytes(4, "big")


def subject_of(strategy: str, topic: str, record: str) -> str:
    """The subject of a topic's values: `topic`, `record` or `topic_record`, as Confluent's serializers name them."""
    return {"topic": f"{topic}-value", "record": record, "topic_record": f"{topic}-{record}"}[strategy]
