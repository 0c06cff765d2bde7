"""Looks on while workers live and die: what can be read, what is committed, which checkpoints there are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.chaos.checker.laws import source_of
from tests.chaos.checker.live import (
    Observation,
    Published,
    committed_when_readable,
    monotone,
    published_when_committed,
    saved_when_committed,
)
from tests.chaos.checker.reading import Reader, dead_letter, partitions_of
from tests.chaos.checker.records import DeadLetter, Output, Source, Violation

if TYPE_CHECKING:
    from tests.deployment import Deployment

ANSWER_S = 2.0
EVIDENCE_BYTES = 256 << 20


class Watch(Reader):
    """Reads outputs and dead letters, and asks for offsets and checkpoints, for as long as it is open.

    It is a `Reader` of the output topic: `len(watch)` outputs were seen so far. A broker that is away is waited for.
    Checkpoint files are linked into `DIRECTORY/seen`, so that those can be examined, too, that are collected meanwhile.

    Args:
        deployment: its topics exist.
        every_s: pause between two looks.
        checkpoints: look at the store; not where a test puts files of its own there, or it is no directory.

    Attributes:
        inputs: how many partitions the input topic has; whoever adds some says so here.
        blind: why the latest look failed, or None.
    """

    def __init__(self, deployment: Deployment, every_s: float = 0.01, checkpoints: bool = True) -> None:
        cluster = deployment.cluster
        self.deployment = deployment
        self.observations: list[Observation] = []
        self.blind: str | None = None
        self.dead_letters = Reader(
            cluster, deployment.dead_letter_topic, partitions_of(cluster, deployment.dead_letter_topic)
        )
        self._partitions = partitions_of(cluster, deployment.output_topic)
        self._every_s = every_s
        self._checkpoints = checkpoints
        self._evidence_bytes = 0
        self._linked: set[str] = set()
        self._forgiven = self._forgiving = False
        self._asking = Consumer(cluster.conf | {"group.id": deployment.group_id, "isolation.level": "read_committed"})
        self._admin = AdminClient(dict(cluster.conf))
        self.inputs = partitions_of(cluster, deployment.input_topic)
        super().__init__(cluster, deployment.output_topic, self._partitions)
        self._looking = threading.Thread(target=self._look_on, name="watch", daemon=True)
        self._looking.start()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        self._closing.set()
        self._looking.join()
        self._asking.close()
        try:
            self.dead_letters.__exit__(kind, *others)
        finally:
            super().__exit__(kind, *others)

    @contextmanager
    def forgiving(self) -> Iterator[None]:
        """The operator moves or deletes the group's offsets meanwhile: they may go back once."""
        self._forgiving = True
        try:
            yield
        finally:
            self._forgiven = True  # for the look that follows, whatever the one under way has seen
            self._forgiving = False

    @property
    def committed(self) -> tuple[int, ...]:
        """The group's offsets at the latest look; none before the first."""
        return self.observations[-1].committed if self.observations else ()

    @property
    def evidence(self) -> Path:
        """Where the checkpoints are that were seen: PARTITION/NAME."""
        return self.deployment.directory / "seen"

    def violations(self, outputs: list[Output], letters: list[DeadLetter]) -> list[Violation]:
        """Hold what was seen against what is there at the end; the watch must be closed.

        Args:
            outputs: all committed records of the output topic.
            letters: all committed records of the dead-letter topic.
        """
        found = monotone(self.observations)
        if "at_least_once" not in self.deployment.flags:
            published = [*self._published(outputs), *self._published(letters)]
            found += published_when_committed(self.observations, published)
            found += committed_when_readable(
                self.observations, [source_of(m.value()) or (0, -1) for m in self.messages]
            )
        found += saved_when_committed(self.observations)
        seen: list[Output | DeadLetter] = [*self.outputs(), *map(dead_letter, self.dead_letters.messages)]
        there: set[Output | DeadLetter] = {*outputs, *letters}
        for one in seen:
            if one not in there:
                source = source_of(one.value) if isinstance(one, Output) else one.source
                words = f"seen at {one.partition}-{one.offset}, and not there at the end"
                found.append(Violation("retracted", source, words, one.time_ms / 1000))
        return found

    def committed_at(self, source: Source) -> float | None:
        """About when a record was committed."""
        for observation in self.observations:
            if source[0] < len(observation.committed) and observation.committed[source[0]] > source[1]:
                return observation.at_s
        return None

    def _published(self, records: list[Output] | list[DeadLetter]) -> Iterator[Published]:
        for one in records:
            if isinstance(one, Output):
                source, topic = source_of(one.value), self.deployment.output_topic
            else:
                source, topic = one.source, self.deployment.dead_letter_topic
            if source is not None:
                yield (topic, one.partition), one.offset, source

    def _look_on(self) -> None:
        while not self._closing.wait(self._every_s):
            forgiven, self._forgiven = self._forgiven or self._forgiving, False
            try:
                observation = self._look(forgiven)
            except (KafkaException, TimeoutError) as fault:
                self._forgiven |= forgiven  # the broker is away; what matters is what can be seen when it is back
                self.blind = str(fault)
                # A client that was told once that a topic is unknown, right after its creation, may say so for ever.
                self._admin = AdminClient(dict(self.deployment.cluster.conf))
                continue
            self.blind = None
            if not self.observations or not _same(self.observations[-1], observation):
                self.observations.append(observation)

    def _look(self, forgiven: bool) -> Observation:
        seen, inputs = len(self), self.inputs
        saved = self._look_at_checkpoints(inputs) if self._checkpoints else {}
        topic = self.deployment.input_topic
        wanted = [TopicPartition(topic, partition) for partition in range(inputs)]
        answers = self._asking.committed(wanted, timeout=ANSWER_S)
        failed = next((entry.error for entry in answers if entry.error is not None), None)
        if failed is not None:
            raise KafkaException(failed)
        committed = tuple(entry.offset for entry in answers)
        forgiven |= self._forgiving or self._forgiven  # moved while this was asked
        at_s = time.time()
        places = [TopicPartition(self.deployment.output_topic, partition) for partition in range(self._partitions)]
        places += [TopicPartition(self.deployment.dead_letter_topic, p) for p in range(self._partitions)]
        asked = self._admin.list_offsets({place: OffsetSpec.latest() for place in places}, request_timeout=ANSWER_S)
        ends = {(place.topic, place.partition): answer.result(2 * ANSWER_S).offset for place, answer in asked.items()}
        if min(ends.values()) < 0:  # a partition whose leader is being elected is answered so, without an error
            raise TimeoutError("a partition has no leader")
        return Observation(at_s, seen, saved, committed, ends, forgiven)

    def _look_at_checkpoints(self, inputs: int) -> dict[int, int]:
        """The newest offset by partition; a checkpoint that is new is linked."""
        newest: dict[int, int] = {}
        for partition in range(inputs):
            folder = self.deployment.checkpoints / self.deployment.group_id / self.deployment.input_topic
            try:
                files = [entry for entry in os.scandir(folder / str(partition)) if entry.name.endswith(".h5")]
            except OSError:
                continue  # nothing was saved yet, or the store is what the test harms
            for entry in files:
                offset = entry.name.partition("-")[0]
                if offset.isdigit():
                    newest[partition] = max(newest.get(partition, -1), int(offset))
                if entry.name not in self._linked and self._evidence_bytes < EVIDENCE_BYTES:
                    self._linked.add(entry.name)
                    self._link(entry, self.evidence / str(partition))
        return newest

    def _link(self, entry: os.DirEntry[str], folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.link(entry.path, folder / entry.name)
            self._evidence_bytes += entry.stat().st_size
        except OSError:
            pass  # it is gone again, or the store is on another file system: then the last ones are all there is


def _same(before: Observation, after: Observation) -> bool:
    """Nothing has happened between two looks."""
    return (before.seen, before.saved, before.committed, before.ends, False) == (
        after.seen,
        after.saved,
        after.committed,
        after.ends,
        after.forgiven,
    )
