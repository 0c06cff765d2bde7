"""The simulated AdminClient: bounds of logs, and their deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka.admin import OffsetSpec

from tests.simulator.errors import TimedOut, timed_out
from tests.simulator.host import Host

EARLIEST = type(OffsetSpec.earliest())


@dataclass
class Answer:
    """A future that is done."""

    _value: Any = None
    _error: KafkaException | None = None

    def result(self, timeout: float | None = None) -> Any:
        """What was asked for."""
        if self._error is not None:
            raise self._error
        return self._value


def ask_topic(host: Host, topic: str, timeout_s: float) -> Any:
    """What any client says of a topic."""
    try:
        logs = host.request("metadata", lambda: host.cluster.topics[topic], timeout_s)
    except TimedOut:
        raise timed_out() from None
    partitions = dict.fromkeys(range(len(logs)))
    return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=partitions)})


class SimAdmin:
    """confluent_kafka's AdminClient, as far as the worker and the programs use it.

    Args:
        host: the process it lives in.
        conf: not looked at.
    """

    def __init__(self, host: Host, conf: Mapping[str, Any], **_: Any) -> None:
        self._host = host

    def list_topics(self, topic: str, timeout: float = -1) -> Any:
        """A topic and its partitions."""
        return ask_topic(self._host, topic, timeout)

    def list_offsets(self, wanted: Mapping[Any, Any], **options: Any) -> dict[Any, Answer]:
        """First offset, or the end as a reader of that isolation sees it."""
        committed = options.get("isolation_level") == IsolationLevel.READ_COMMITTED

        def offset(where: Any, spec: Any) -> int:
            log = self._host.cluster.topics[where.topic][where.partition]
            if isinstance(spec, EARLIEST):
                return log.start
            return log.stable_end if committed else log.end

        def ask() -> dict[Any, Answer]:
            return {w: Answer(SimpleNamespace(offset=offset(w, spec))) for w, spec in wanted.items()}

        return self._answers(list(wanted), "list_offsets", ask, options.get("request_timeout", 60.0))

    def delete_records(self, wanted: list[Any]) -> dict[Any, Answer]:
        """Let logs begin later."""

        def delete() -> dict[Any, Answer]:
            for where in wanted:
                log = self._host.cluster.topics[where.topic][where.partition]
                log.start = max(log.start, where.offset)
            return {where: Answer() for where in wanted}

        return self._answers(wanted, "delete_records", delete, 60.0)

    def _answers(
        self, wanted: list[Any], api: str, ask: Callable[[], dict[Any, Answer]], timeout_s: float
    ) -> dict[Any, Answer]:
        try:
            return self._host.request(api, ask, timeout_s)
        except TimedOut:
            return {where: Answer(_error=timed_out()) for where in wanted}
