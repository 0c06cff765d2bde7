"""A worker that is given a share of what it can do, for hours, and looked at all the while."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.bench.endurance.sight import PARTITION, Clock, Reader, Window, scrape
from worker.bench.contestant import Contestant, environment
from worker.bench.stage import Stage
from worker.errors import FatalFault

IDLE_TIMEOUT_S = 60.0  # what fell silent is then dropped
KEPT = {"retention.bytes": str(512 << 20), "segment.bytes": str(64 << 20)}  # of each partition: two hours fill a disk
STALL_S = 60.0


@dataclass(frozen=True)
class Endured:
    """A whole run.

    Attributes:
        greatest: samples per second that the worker reached at most.
        rate: samples per second that it was given.
        sent: samples in all.
        samples: that the worker counted for them.
        events: read of the one partition.
        expected: samples that were in that partition.
        wrong: events that were not their stream's next timestep.
        late_ms: the publisher's own delay, 99th percentile.
        windows: in order.
    """

    greatest: float
    rate: float
    sent: int
    samples: int
    events: int
    expected: int
    wrong: int
    late_ms: float
    windows: list[Window]

    @property
    def exact(self) -> bool:
        """Whether every sample was answered once."""
        return self.samples == self.sent and self.events == self.expected and not self.wrong


def endure(stage: Stage, minutes: float, load: float, windows: int, port: int) -> Endured:
    """Measure the greatest rate, then keep to a share of it for so long.

    Raises:
        FatalFault: the worker ended or answers no more.
    """
    scale, told = stage.scale, {"metrics_port": port, "idle_timeout_s": IDLE_TIMEOUT_S}
    with stage.contestant("cellstream", **told) as worker:
        stage.say("start and warm-up")
        worker.warm_up(max(100, scale.records // 10), scale.streams, scale.rest)
        greatest = worker.lap(scale.records, scale.streams).rate
        _keep_little(stage, worker)
        before = worker.input_ends()
        counted = scrape(port)["samples"]
        reader = Reader(stage.settings.kafka_conf(), worker.settings["output_topic"])
        arguments = [load * greatest, 60 * minutes, scale.streams, worker.traffic.features]
        command = [sys.executable, "-m", "tests.bench.endurance.visitors", *map(str, arguments)]
        gc.collect()
        gc.freeze()
        gc.disable()  # fresh messages by the thousand would have it walk all that TensorFlow made
        try:
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(worker.settings)) as publisher:
                try:
                    seen = list(_watch(stage, worker, reader, publisher, 60 * minutes / windows, before[PARTITION]))
                except BaseException:
                    publisher.terminate()  # it would have hours to go
                    raise
                assert publisher.stdout is not None
                sent = json.loads(publisher.stdout.read())
        finally:
            gc.enable()
            reader.close()
        ends = worker.input_ends()
        assert sent["sent"] == sum(ends.values()) - sum(before.values()), "somebody else wrote into the topic"
        deadline = time.monotonic() + STALL_S  # the other partitions may be a commit behind
        while (samples := int(scrape(port)["samples"] - counted)) < sent["sent"] and time.monotonic() < deadline:
            time.sleep(0.1)
        expected = ends[PARTITION] - before[PARTITION]
        rate = load * greatest
        return Endured(
            greatest, rate, sent["sent"], samples, reader.events, expected, reader.wrong, sent["late_ms"], seen
        )


def _watch(
    stage: Stage, worker: Contestant, reader: Reader, publisher: subprocess.Popen[bytes], length_s: float, begin: int
) -> Iterator[Window]:
    """A window after the other until all is sent and answered; the last one is what was left over."""
    clock, expected = Clock(reader, worker.settings["metrics_port"]), None
    end = time.monotonic() + length_s
    while expected is None or reader.events < expected:
        reader.read()
        if expected is None and publisher.poll() is not None:
            assert publisher.returncode == 0, f"the publisher ended with {publisher.returncode}"
            expected = worker.input_ends()[PARTITION] - begin
        if time.monotonic() >= end:
            end += length_s
            yield (window := clock.window())
            stage.say(
                f"{window.end_s / 60:.1f} min: p99 {window.p99_ms:.0f} ms, {window.rss_bytes / 1e6:.0f} MB, "
                f"{window.open_fds:.0f} descriptors, {window.live_streams:,.0f} streams, lag {window.lag:,.0f}"
            )
        if time.monotonic() - reader.seen > STALL_S:
            raise FatalFault(
                f"no event came for {STALL_S:.0f} s; {reader.events} did; it said:\n{worker.said()[-4_000:]}"
            )
    yield clock.window()


def _keep_little(stage: Stage, worker: Contestant) -> None:
    admin = AdminClient(stage.settings.kafka_conf())
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in KEPT.items()]
    topics = [worker.settings[f"{kind}_topic"] for kind in ("input", "output")]
    altered = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic in topics]
    for future in admin.incremental_alter_configs(altered).values():
        future.result()
