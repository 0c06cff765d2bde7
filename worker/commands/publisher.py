"""Send samples at a pace, and know what became of each of them.

The producer is idempotent: a retry neither doubles nor reorders a stream's samples. A sample counts as published
when the broker has it; Ctrl-C stops taking new ones and delivers those that were taken.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from worker.commands.sample_sources import BadLine, Sample

FLUSH_S = 60.0
LOOK_EVERY = 1_000  # samples between two looks at the clock when there is no pace to keep


class Stop:
    """SIGINT and SIGTERM as a question; only while input is waited for do they interrupt.

    A second one interrupts wherever it comes.
    """

    def __init__(self) -> None:
        self.asked = False
        self.waiting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def next(self, source: Iterator[Sample | BadLine]) -> Sample | BadLine | None:
        """The source's next item; None at its end or when asked to stop."""
        if self.asked:
            return None
        self.waiting = True
        try:
            return next(source, None)
        except KeyboardInterrupt:
            return None
        finally:
            self.waiting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if self.waiting or again:
            raise KeyboardInterrupt


@dataclass
class Sending:
    """What became of a source so far.

    Attributes:
        topic: where samples go.
        accepted: samples handed to the client.
        failed: of them, those that the broker does not have.
        bad_lines: lines that were no samples.
        interrupted: somebody asked to stop before the source ended.
        seconds: from the first sample until all were delivered.
        reason: of the first failed delivery.
    """

    topic: str
    accepted: int = 0
    failed: int = 0
    bad_lines: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    reason: str = ""

    def report(self, error: KafkaError, message: Message) -> None:
        """A sample that could not be delivered."""
        self.failed += 1
        self.reason = self.reason or error.str()

    def to_json(self) -> dict[str, Any]:
        """The summary for scripts; `published` samples are on the broker."""
        return {
            "topic": self.topic,
            "published": self.accepted - self.failed,
            "failed": self.failed,
            "bad_lines": self.bad_lines,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 3),
        }


def send(
    conf: Mapping[str, str],
    topic: str,
    source: Iterator[Sample | BadLine],
    *,
    rate: float | None,
    limit: int | None,
    on_bad_line: Callable[[BadLine], bool],
    on_progress: Callable[[int], None],
) -> Sending:
    """Send a source to a topic.

    Args:
        conf: librdkafka properties with `bootstrap.servers`.
        topic: an existing topic.
        source: samples, and lines that were none.
        rate: samples per second; None sends as fast as it can.
        limit: stop after so many samples.
        on_bad_line: told of each; True goes on.
        on_progress: told now and then how many samples were accepted.
    """
    sending = Sending(topic)
    # murmur2 is the Java client's hash; librdkafka's own default would send the same key elsewhere.
    defaults = {"partitioner": "murmur2_random", "message.timeout.ms": "60000", "compression.type": "lz4"}
    forced = {"enable.idempotence": True, "delivery.report.only.error": True, "on_delivery": sending.report}
    producer = Producer({**defaults, **conf, **forced})
    began = time.monotonic()
    with Stop() as stop:
        while limit is None or sending.accepted < limit:
            item = stop.next(source)
            if item is None:
                break
            if isinstance(item, BadLine):
                sending.bad_lines += 1
                if not on_bad_line(item):
                    break
                continue
            _produce(producer, topic, item)
            sending.accepted += 1
            if rate is not None:
                _keep_pace(producer, began + sending.accepted / rate, stop)
            if rate is not None or sending.accepted % LOOK_EVERY == 0:
                producer.poll(0)
                on_progress(sending.accepted)
        sending.interrupted = stop.asked
        left = producer.flush(FLUSH_S)
        if left:
            sending.failed += left
            sending.reason = sending.reason or f"no answer from the brokers within {FLUSH_S:.0f} s"
    on_progress(sending.accepted)
    sending.seconds = time.monotonic() - began
    return sending


def _produce(producer: Producer, topic: str, sample: Sample) -> None:
    timestamp = {} if sample.timestamp_ms is None else {"timestamp": sample.timestamp_ms}
    while True:
        try:
            producer.produce(topic, sample.value, sample.key, headers=sample.headers, **timestamp)
            return
        except BufferError:  # the queue is full: let the broker take some
            producer.poll(0.1)


def _keep_pace(producer: Producer, due: float, stop: Stop) -> None:
    """Wait until the monotonic time `due`, serving the client; less than a look if asked to stop."""
    while not stop.asked and (ahead := due - time.monotonic()) > 0:
        producer.poll(min(ahead, 0.1))
