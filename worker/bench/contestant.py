"""One contestant: a process, its topics and group, watched from outside.

Outputs and input offsets are committed in one transaction, so the group's committed offsets say how many samples
have their output committed. A lap begins at the first commit that is seen after the volley was fired and ends at
the one that completes it: neither the process's start nor the wake-up from an idle poll is in it, everything else is.
Processor time is the operating system's count for the whole process, all threads, and for the processes that it
started, between the same two moments.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from worker.bench.volley import Traffic, Volleys
from worker.errors import FatalFault

LOOK_EVERY_S = 0.01
STALL_S = 90.0
IDLE_SHARE = 0.05  # of one core
IDLE_FOR_S = 1.5
SETTLE_S = 180.0
TICK_S = 0.01  # what processor time is counted in
MODULES = {"passthrough": "worker.bench.passthrough", "batch-of-one": "worker.bench.batch_of_one"}


@dataclass(frozen=True)
class Lap:
    """`samples` answered in `seconds` of wall time and `cpu_s` of processor time; a tick of it where less was seen."""

    samples: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time per sample."""
        return self.cpu_s / self.samples * 1e6


class Contestant:
    """Starts a contestant and times its laps.

    Args:
        name: passthrough, cellstream or batch-of-one; any other is for the reader, and `command` says what is run.
        settings: what the process is told, as settings' names and values; its `kafka` properties stay out of the
            process list, since everything goes through the environment.
        volleys: of its input topic.
        log: file that takes what the process says.
        command: the process, where it is none of the three.
        cores: processors that it may run on; None leaves that to the system.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        volleys: Volleys,
        log: Path,
        command: Sequence[str] | None = None,
        cores: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.laps: list[Lap] = []
        self.stall_s = STALL_S  # without an answer for so long, it has failed
        self._command = list(command) if command else _command(name)
        self._cores = cores
        self.first_output_s = 0.0
        self.rss_bytes = 0
        self.first_volley: dict[int, int] = {}  # partition -> next_offset after it
        self._volleys = volleys
        self._log = log
        conf = {"bootstrap.servers": settings["bootstrap_servers"], **settings["kafka"]}
        # Never joins the group; read-committed, it would wait for every pending commit instead of seeing the last.
        self._reader = Consumer({**conf, "group.id": settings["group_id"], "isolation.level": "read_uncommitted"})
        self._process: psutil.Popen | None = None

    def start(self) -> None:
        """Start the process; its first volley may be waiting for it."""
        with self._log.open("wb") as log:
            self._process = psutil.Popen(self._command, stdout=log, stderr=log, env=environment(self.settings))
        if self._cores is not None:
            self._process.cpu_affinity(list(self._cores))

    def first_output(self, records: int, streams: int) -> float:
        """Start with a backlog of `records` and answer it: seconds from the start to the first committed output."""
        before, after = self._volleys.load(records, streams)
        self.first_volley = after
        self._volleys.fire()
        began = time.perf_counter()
        self.start()
        self._watch(before, after, records)
        self.first_output_s = self._first_seen - began
        return self.first_output_s

    def warm_up(self, records: int, streams: int, rest: bool = True) -> None:
        """Start with a backlog of `records`, answer as many again, then wait until the process rests.

        The first half takes in imports and the first use of everything; after it a worker may still compile in
        the background.

        Args:
            records: of each half.
            streams: that they belong to.
            rest: False when it does not matter what is still compiled.
        """
        self.first_output(records, streams)
        if rest:
            self._settle()
            self.lap(records, streams)
            self._settle()
        self.laps.clear()

    def lap(self, records: int, streams: int, each_once: bool = False) -> Lap:
        """Load `records`, fire them, wait for their outputs."""
        before, after = self._volleys.load(records, streams, each_once)
        self._volleys.fire()
        lap = self._watch(before, after, records)
        self.laps.append(lap)
        self.rss_bytes = max(self.rss_bytes, self.memory_bytes)
        return lap

    @property
    def pid(self) -> int:
        """Of the process."""
        return int(self._running.pid)

    @property
    def memory_bytes(self) -> int:
        """Resident memory now."""
        return int(self._running.memory_info().rss)

    @property
    def traffic(self) -> Traffic:
        """What its records are."""
        return self._volleys.traffic

    def input_ends(self) -> dict[int, int]:
        """The end of each partition of its input topic."""
        return self._volleys.ends()

    def said(self) -> str:
        """What the process has written so far."""
        return self._log.read_text("utf-8", "replace")

    def freeze(self, seconds: float) -> None:
        """Let it stand still for so long, as a paused virtual machine does."""
        self._running.suspend()
        try:
            time.sleep(seconds)
        finally:
            self._running.resume()

    def stop(self) -> None:
        """End the process: politely, then not."""
        self._reader.close()
        if self._process is None or self._process.poll() is not None:
            return
        family = self._family()
        self._process.send_signal(signal.SIGTERM)
        psutil.wait_procs(family, 20)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, 20)

    @property
    def _running(self) -> psutil.Popen:
        assert self._process is not None, "start() first"
        return self._process

    def _watch(self, before: Mapping[int, int], after: Mapping[int, int], records: int) -> Lap:
        """Time from the first commit seen to the last; should one commit hold them all, from now to it."""
        start = (0, time.perf_counter(), self._cpu_s())
        moved = start[1]
        done = 0
        while done < records:
            time.sleep(LOOK_EVERY_S)
            seen = self._done(before, after)
            now = time.perf_counter()
            if seen > done:
                moved = now
                if not done:
                    self._first_seen = now
                    if seen < records:
                        start = (seen, now, self._cpu_s())
            elif now - moved > self.stall_s or self._running.poll() is not None:
                self._fail(f"{done} of {records} samples answered, then nothing for {now - moved:.0f} s")
            done = seen
        samples = (done - start[0]) * self._volleys.traffic.chunk
        return Lap(samples, time.perf_counter() - start[1], max(TICK_S, self._cpu_s() - start[2]))

    def _done(self, before: Mapping[int, int], after: Mapping[int, int]) -> int:
        """Samples of the volley that are committed; transaction markers around it are not counted."""
        asked = [TopicPartition(self.settings["input_topic"], partition) for partition in before]
        committed = {tp.partition: tp.offset for tp in self._reader.committed(asked, 30)}
        return sum(max(0, min(committed[p], after[p]) - before[p]) for p in before)

    def _settle(self) -> None:
        """Wait until the process uses next to no processor: nothing is being compiled any more."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            used = self._cpu_s()
            time.sleep(IDLE_FOR_S)
            if self._cpu_s() - used < IDLE_SHARE * IDLE_FOR_S:
                return
        self._fail(f"did not come to rest within {SETTLE_S:.0f} s")

    def _cpu_s(self) -> float:
        """Of the process and of those that it started and that still run."""
        used = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                used += times.user + times.system
        return used

    def _family(self) -> list[psutil.Process]:
        """The process and those that it started; none once it has ended."""
        with suppress(psutil.NoSuchProcess):
            return [self._running, *self._running.children(recursive=True)]
        return []

    def _fail(self, what: str) -> None:
        code = self._running.poll()
        state = "still runs" if code is None else f"ended with {code}"
        raise FatalFault(f"{self.name}: {what}; the process {state}; it said:\n{self.said()[-4_000:]}")


def _command(name: str) -> list[str]:
    if name in MODULES:
        return [sys.executable, "-m", MODULES[name]]
    return [sys.executable, "-c", "from worker.cli import main; main()", "run"]


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """This process's environment with `settings` in place of all `CELLSTREAM_*` variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CELLSTREAM_")}
    for name, value in settings.items():
        if name == "kafka":
            environment.update({f"CELLSTREAM_KAFKA__{k.replace('.', '_').upper()}": v for k, v in value.items()})
        elif value is not None:
            environment[f"CELLSTREAM_{name.upper()}"] = str(value)
    return environment
