"""The transport's limit: consume, decode, encode, produce, commit; no model and no state.

    python -m worker.bench.passthrough      settings come from CELLSTREAM_* variables

Written to be as fast as this client allows from one Python thread: whole polls in columns, a typed decoder,
one template for the output, garbage collection kept off the fresh messages. What it leaves out of the worker's
duties (state, dead letters, restoring, metrics) is the point of it: no worker on this client can be faster.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from threading import Event

import msgspec
import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from worker.settings import Settings
from worker.settings.sources import load_settings

TIMEOUT_S = 30.0
MODEL = "0" * 12
EVENT = (
    b'{"stream_id":"%b","sequence":"%d-%d","timestep":0,"probability":%b,"timestamp":%d,"source":[%d,%d],"model":"'
    + MODEL.encode()
    + b'"}'
)


class Sample(msgspec.Struct, gc=False):
    """The plain sample record of DESIGN.md; its markers are decoded as the worker must decode them."""

    features: list[float]
    timestep: int | None = None
    end_of_sequence: bool = False
    start_of_sequence: bool = False


DECODER = msgspec.json.Decoder(Sample)


def encode(messages: list[Message], codec: str = "json") -> list[bytes]:
    """Decode samples and encode events of the worker's form; the "probability" is the first feature as float32."""
    if codec == "float32":
        first = np.frombuffer(b"".join(map(Message.value, messages)), "<f4").reshape(len(messages), -1)[:, 0].copy()
    else:
        samples = map(DECODER.decode, map(Message.value, messages))
        first = np.fromiter((sample.features[0] for sample in samples), np.float32, len(messages))
    texts = orjson.dumps(first, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    keys, partitions = map(Message.key, messages), list(map(Message.partition, messages))
    offsets = list(map(Message.offset, messages))
    times = [timestamp for _, timestamp in map(Message.timestamp, messages)]
    return list(map(EVENT.__mod__, zip(keys, partitions, offsets, texts, times, partitions, offsets, strict=True)))


def run(settings: Settings, stop: Event) -> None:
    """Move records from the input to the output topic until `stop` is set."""
    consumer = Consumer(
        {
            **settings.kafka_conf(),
            "group.id": settings.group_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "check.crcs": True,
            "fetch.queue.backoff.ms": 5,  # by default a full prefetch queue stops the fetcher for a second
        }
    )
    exactly_once = settings.delivery == "exactly_once"
    producer = Producer(
        {
            **settings.kafka_conf(),
            **({"transactional.id": settings.transactional_id} if exactly_once else {"enable.idempotence": True}),
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    if exactly_once:
        producer.init_transactions(TIMEOUT_S)
    consumer.subscribe([settings.input_topic])
    _spare_fresh_messages()
    produce, topic = producer.produce, settings.output_topic
    interval_s = settings.commit_interval_ms / 1000
    last_offsets: dict[int, int] = {}
    due = 0.0
    while not stop.is_set():
        wait_s = max(0.0, due - time.monotonic()) if last_offsets else 0.1
        messages = consumer.consume(1, wait_s)
        if messages:
            messages += consumer.consume(settings.poll_records - 1, 0)
            for fault in filter(None, map(Message.error, messages)):
                raise KafkaException(fault)
            if not last_offsets:
                if exactly_once:
                    producer.begin_transaction()
                due = time.monotonic() + interval_s
            for key, event in zip(map(Message.key, messages), encode(messages, settings.input_codec), strict=True):
                produce(topic, event, key)
            last_offsets.update(zip(map(Message.partition, messages), map(Message.offset, messages), strict=True))
        if last_offsets and time.monotonic() >= due:
            positions = [TopicPartition(settings.input_topic, p, last + 1) for p, last in last_offsets.items()]
            if exactly_once:
                producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), TIMEOUT_S)
                producer.commit_transaction(TIMEOUT_S)
            else:
                producer.flush(TIMEOUT_S)
                consumer.commit(offsets=positions, asynchronous=False)
            last_offsets.clear()
    consumer.close()


def _spare_fresh_messages() -> None:
    """10,000 fresh messages a poll would have the collector walk everything, over and over."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1_000)


def main() -> None:
    """Run until SIGTERM."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run(load_settings({}, os.environ, None), stop)


if __name__ == "__main__":
    main()
