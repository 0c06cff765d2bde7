"""Records out as they came in, under another key, exactly once."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from worker.kafka.transaction import TransactionalSink
from worker.records import Copies, Outcome

MOST_BYTES = 1_000_000_000  # that a client may be told; what is really too large for the topic its broker knows


class CopySink(TransactionalSink):
    """Copies with their headers and timestamps, dead letters and offsets share one transaction."""

    def _produce_values(self, outcome: Outcome) -> None:
        assert isinstance(outcome, Copies)
        produce, topic = self._producer.produce, self._output_topic
        columns = zip(outcome.values, outcome.keys, outcome.times, outcome.headers, strict=True)
        for value, key, time, headers in columns:
            kept = {
                "timestamp": max(time, 0),
                "headers": headers,
            }  # 0, the client's word for "now", where there is none
            try:
                produce(topic, value, key, **kept)
            except BufferError:
                self._until_accepted(topic, value, key, **kept)

    def _new_producer(self, **own: Any) -> Producer:
        return super()._new_producer(**{"message.max.bytes": MOST_BYTES}, **own)
