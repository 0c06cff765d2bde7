"""Quix Streams for the same work: a stateful function over its RocksDB store, exactly once.

quix_peer.py WEIGHTS DIGEST      in the environment that `make peers` makes; CELLSTREAM_* variables tell of topics
"""

from __future__ import annotations

import os
import sys
from typing import Any

from model import Answers
from quixstreams import Application, State, message_context


def main(weights: str, digest: str) -> None:
    """Run until SIGTERM."""
    told = {name.removeprefix("CELLSTREAM_").lower(): value for name, value in os.environ.items()}
    application = Application(
        broker_address=told["bootstrap_servers"],
        consumer_group=told["group_id"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=int(told["commit_interval_ms"]) / 1000,
        state_dir=told["checkpoints"],
        producer_extra_config={"partitioner": "murmur2_random"},
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        loglevel="WARNING",
    )
    answers = Answers(weights, digest)
    samples = application.topic(told["input_topic"], key_deserializer="str", value_deserializer="bytes")
    probabilities = application.topic(told["output_topic"], key_serializer="str", value_serializer="bytes")

    def answer(value: bytes, key: str, timestamp: int, headers: Any, state: State) -> bytes:
        place = message_context()
        event, after = answers(key, value, state.get_bytes("s"), place.partition, place.offset, timestamp)
        state.set_bytes("s", after)
        return event

    frame = application.dataframe(samples)
    frame.apply(answer, stateful=True, metadata=True).to_topic(probabilities)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
