"""A publisher that keeps to its plan: so many samples every millisecond, whether or not anybody keeps up.

    python -m worker.bench.open_loop RATE SECONDS STREAMS FEATURES      settings come from CELLSTREAM_* variables

A sample's timestamp is the millisecond in which it was meant to be sent, so that a latency counted from it includes
any delay of the publisher itself (no coordinated omission). Prints JSON: samples sent, when, and how late.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from confluent_kafka import Producer

from worker.bench.volley import Traffic
from worker.settings import Settings
from worker.settings.sources import load_settings

LEAD_MS = 200
SEED = 11
DRAWN = 1_000_003  # of streams, then from the first again; a prime, so that other values come then


def publish(
    settings: Settings, rate: float, seconds: float, records: Iterator[tuple[bytes, bytes]]
) -> dict[str, float]:
    """Send `rate` records a second, each a value and its key, to the input topic.

    Returns:
        `sent`; `begun_ms`, the timestamp of the first; `late_ms`, how late the 99th percentile was handed over.
    """
    total = int(rate * seconds)
    producer = Producer(
        {
            **settings.kafka_conf(),
            "linger.ms": 5,  # the default; with 1, the broker beside it spends a core on batches of a few records
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.list_topics(settings.input_topic, 30.0)
    gc.collect()
    gc.freeze()
    gc.disable()
    topic, produce = settings.input_topic, producer.produce
    begun_ms = math.ceil(time.time() * 1000) + LEAD_MS
    sent, tick = 0, 0
    late = array("f")
    while sent < total:
        intended_ms = begun_ms + tick
        wait_s = intended_ms / 1000 - time.time()
        if wait_s > 0:
            time.sleep(wait_s)
        until = min(total, int((tick + 1) * rate / 1000))
        for value, key in islice(records, until - sent):
            while True:
                try:
                    produce(topic, value, key, timestamp=intended_ms)
                    break
                except BufferError:  # the broker is behind; waiting for it counts as late
                    producer.poll(0.05)
        sent, tick = until, tick + 1
        producer.poll(0)
        late.append(time.time() * 1000 - intended_ms)
    left = producer.flush(30.0)
    assert not left, f"{left} samples were not delivered"
    return {"sent": sent, "begun_ms": begun_ms, "late_ms": float(np.percentile(late, 99))}


def samples(streams: int, features: int) -> Iterator[tuple[bytes, bytes]]:
    """Samples of streams drawn at random, without an end."""
    random = np.random.default_rng(SEED)
    values = Traffic(features).values(random)
    keys = [b"stream-%05d" % i for i in range(streams)]
    return zip(cycle(values), cycle(keys[i] for i in random.integers(0, streams, DRAWN).tolist()), strict=False)


def main(arguments: Sequence[str]) -> None:
    """Publish, and say how it went."""
    rate, seconds, streams, features = arguments
    settings = load_settings({}, os.environ, None)
    records = samples(int(streams), int(features))
    print(json.dumps(publish(settings, float(rate), float(seconds), records)))


if __name__ == "__main__":
    main(sys.argv[1:])
