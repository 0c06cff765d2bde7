"""Bytewax for the same work: a stateful operator with its recovery store. It has no transactions: at least once.

bytewax_peer.py WEIGHTS DIGEST      in the environment that `make peers` makes; CELLSTREAM_* variables tell of topics
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from model import Answers

BATCH = 1_000


class Stream(StatefulBatchLogic):
    """One stream: its samples of a batch to its events.

    Below `stateful_map`, which is three Python calls more for each sample.
    """

    def __init__(self, answers: Answers, state: bytes | None) -> None:
        self._answers = answers
        self._state = state

    def on_batch(self, values: list[KafkaSourceMessage]) -> tuple[list[KafkaSinkMessage], bool]:
        """Answer them; the stream is kept."""
        events = []
        for sample in values:
            event, self._state = self._answers(
                sample.key.decode(), sample.value, self._state, sample.partition, sample.offset, sample.timestamp[1]
            )
            events.append(KafkaSinkMessage(sample.key, event))
        return events, StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes | None:
        """Immutable as it is."""
        return self._state


def main(weights: str, digest: str) -> None:
    """Run until SIGTERM."""
    told = {name.removeprefix("CELLSTREAM_").lower(): value for name, value in os.environ.items()}
    brokers, answers = told["bootstrap_servers"].split(","), Answers(weights, digest)
    reading = {"isolation.level": "read_committed", "fetch.queue.backoff.ms": "5"}
    flow = Dataflow("peer")
    samples = op.input(
        "samples", flow, KafkaSource(brokers, [told["input_topic"]], add_config=reading, batch_size=BATCH)
    )
    keyed = op.key_on("stream", samples, lambda sample: sample.key.decode())
    events = op.stateful_batch("answer", keyed, lambda state: Stream(answers, state))
    writing = {"partitioner": "murmur2_random", "linger.ms": "5", "queue.buffering.max.messages": "1000000"}
    op.output("events", op.key_rm("message", events), KafkaSink(brokers, told["output_topic"], writing))
    store = Path(told["checkpoints"])
    store.mkdir(parents=True, exist_ok=True)
    init_db_dir(store, 1)
    interval = timedelta(milliseconds=int(told["commit_interval_ms"]))
    cli_main(flow, epoch_interval=interval, recovery_config=RecoveryConfig(store))


if __name__ == "__main__":
    main(*sys.argv[1:])
