"""A million distinct stream IDs against a bound of a thousand: memory stays where it is."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.checker import Input
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.registry import add
from tests.chaos.scenarios.stage import Stage
from tests.chaos.traffic import START_MS

BOUND = 1_000
PATIENCE_S = 900.0  # for a million records on a machine that has other things to do
GROWTH_MB = 150  # a million streams of this model without a bound: 64 bytes of state and some hundred of ID and place


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


def publish_streams(stage: Stage, begin: int, end: int) -> None:
    """One sample of each of these streams."""
    producer = Producer(stage.deployment.cluster.conf | {"linger.ms": "50", "queue.buffering.max.messages": "2000000"})

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        stage.inputs.append(Input(message.partition(), message.offset(), message.key(), time_ms=message.timestamp()[1]))

    for number in range(begin, end):
        producer.produce(
            stage.deployment.input_topic,
            b'{"features":[0.5,-1.5,2.0]}',
            f"stream-{number}".encode(),
            timestamp=START_MS + number,
            on_delivery=note,
        )
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0


def _many_streams(count: int, long: bool) -> None:
    def play(context: Context) -> None:
        with context.stage("--max-streams-per-partition", str(BOUND), "--checkpoint-interval-s", "1") as stage:
            publish_streams(stage, 0, count // 10)
            worker = stage.start()
            stage.settle(PATIENCE_S)
            before = resident_mb(worker.pid)
            publish_streams(stage, count // 10, count)
            stage.settle(PATIENCE_S)
            grown = resident_mb(worker.pid) - before
            context.faults["new streams"] += count
            print(f"{count} streams: {before:.0f} MB, then {grown:+.0f} MB", flush=True)
            assert grown < GROWTH_MB, (
                f"{before:.0f} MB, then {grown:+.0f} MB for streams that the bound should turn away"
            )
            stage.kill()
            stage.finish(compare=False)

    words = (
        f"{count:,} distinct stream IDs against max_streams_per_partition={BOUND:,}, then `kill -9`.\n\nExpected: the "
        "oldest give way, memory does not grow with the number of streams, and every sample is answered once."
    )
    add(f"streams:{count}", play, words, long=long)


_many_streams(1_000_000, long=True)
_many_streams(60_000, long=False)
