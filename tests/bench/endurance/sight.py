"""What is seen of a worker: its metrics, and the events of one partition, held to their streams' timesteps."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from urllib.request import urlopen

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.endurance.visitors import LENGTH

PARTITION = 0  # that is read
METRICS = {
    "rss_bytes": "process_resident_memory_bytes",
    "open_fds": "process_open_fds",
    "cpu_s": "process_cpu_seconds_total",
    "lag": "cellstream_consumer_lag_records",
    "live_streams": "cellstream_live_streams",
    "samples": "cellstream_samples_total",
}


class Event(msgspec.Struct, gc=False):
    """What of a probability event is read."""

    stream_id: str
    timestep: int
    timestamp: int


@dataclass(frozen=True)
class Window:
    """What was seen in one stretch of time, and the worker's metrics at its end.

    Attributes:
        end_s: since the first sample.
        events: read of the one partition.
        p50_ms, p99_ms, p999_ms: latency.
        cores: that the worker used, on average.
        rss_bytes, open_fds, lag, live_streams: of the worker, at the end.
    """

    end_s: float
    events: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cores: float
    rss_bytes: float
    open_fds: float
    lag: float
    live_streams: float


class Reader:
    """Reads committed events of one partition and holds them to their streams' timesteps."""

    def __init__(self, conf: dict[str, str], topic: str) -> None:
        own = {"group.id": topic, "isolation.level": "read_committed", "fetch.queue.backoff.ms": 5}
        self._consumer = Consumer({**conf, **own, "fetch.wait.max.ms": 50})
        place = TopicPartition(topic, PARTITION)
        place.offset = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        self._consumer.assign([place])
        self._decode = msgspec.json.Decoder(Event).decode
        self._due: dict[str, int] = {}
        self._latencies = array("f")
        self.events = self.wrong = 0
        self.seen = time.monotonic()

    def read(self) -> None:
        """What is there, or what comes within a tenth of a second."""
        messages = self._consumer.consume(1, 0.1)
        if not messages:
            return
        messages += self._consumer.consume(10_000, 0)
        now, self.seen = time.time() * 1000, time.monotonic()
        for message in messages:
            event = self._decode(message.value())
            self._latencies.append(now - event.timestamp)
            self.wrong += event.timestep != self._due.get(event.stream_id, 0)
            if event.timestep == LENGTH - 1:
                self._due.pop(event.stream_id, None)
            else:
                self._due[event.stream_id] = event.timestep + 1
        self.events += len(messages)

    def latencies(self) -> array[float]:
        """Of all events since the last call, in ms."""
        taken, self._latencies = self._latencies, array("f")
        return taken

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


class Clock:
    """Ends one window after the other, beginning now."""

    def __init__(self, reader: Reader, port: int) -> None:
        self._reader, self._port = reader, port
        self._begun = self._last = time.monotonic()
        self._cpu_s = scrape(port)["cpu_s"]

    def window(self) -> Window:
        """From the end of the last one until now."""
        now, metrics = time.monotonic(), scrape(self._port)
        latencies = np.asarray(self._reader.latencies())
        late = np.percentile(latencies, (50, 99, 99.9)).tolist() if len(latencies) else [0.0] * 3
        cores = (metrics["cpu_s"] - self._cpu_s) / (now - self._last)
        self._last, self._cpu_s = now, metrics["cpu_s"]
        rest = {name: metrics[name] for name in ("rss_bytes", "open_fds", "lag", "live_streams")}
        return Window(now - self._begun, len(latencies), *late, cores, **rest)


def scrape(port: int) -> dict[str, float]:
    """The worker's metrics by our names, summed over partitions."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        text = page.read().decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    # Lag has no value until it is first known.
    return {ours: values.get(theirs, 0.0) for ours, theirs in METRICS.items()}
