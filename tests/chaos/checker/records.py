"""What the checker reads, as values: input records, outputs, dead letters, and broken laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Source = tuple[int, int]  # partition and offset of an input record


@dataclass(frozen=True)
class Input:
    """A record of the input topic; a tombstone is one without a sample that ends its sequence.

    Attributes:
        stream: the stream ID; whatever it is when the record is refused.
        is_sample: it holds at least one sample.
        is_end: the sequence is over after it.
        is_start: a sequence begins with its first sample, by its own word.
        samples: the features of each of its samples; None where only the bookkeeping is to be checked.
        end_reason: the word of a closing event.
        time_ms: the record's timestamp, -1 for none; None where nobody knows.
        refused: whether it must become a dead letter; None leaves that to the worker.
    """

    partition: int
    offset: int
    stream: bytes
    is_sample: bool = True
    is_end: bool = False
    is_start: bool = False
    samples: tuple[tuple[float, ...], ...] | None = None
    end_reason: str = ""
    time_ms: int | None = None
    refused: bool | None = None

    @property
    def source(self) -> Source:
        """Its coordinates."""
        return self.partition, self.offset

    @property
    def count(self) -> int:
        """Number of its samples."""
        return int(self.is_sample) if self.samples is None else len(self.samples)


@dataclass(frozen=True)
class Output:
    """A committed record of the output topic; `time_ms` is when it was produced, and no part of what it is."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    time_ms: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class DeadLetter:
    """A committed record of the dead-letter topic, and whom it is about; `source` is None when it does not say."""

    partition: int
    offset: int
    source: Source | None
    topic: str
    time_ms: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Violation:
    """A broken law.

    Attributes:
        law: which; see the modules that find them.
        source: the input record that it is about, where there is one.
        words: what was expected and what was found.
        at_s: about when it happened, seconds since the epoch; None when nobody knows.
    """

    law: str
    source: Source | None
    words: str
    at_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Rules:
    """The settings of a deployment that decide what its outputs must be.

    Attributes:
        capacity: most live streams of a partition.
        anew: offsets at which the operator let the streams of a partition begin anew (`on_lost_state=fresh`).
    """

    sequence_length: int | None = None
    idle_timeout_ms: int | None = None
    capacity: int | None = None
    closing_events: bool = False
    max_record_bytes: int = 1_048_576
    max_samples_per_record: int = 10_000
    anew: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, flags: Sequence[str], anew: Mapping[int, int] | None = None) -> Rules:
        """As a worker's flags have it; the defaults are those of the settings."""
        given = {flag: value for flag, value in zip(flags, (*flags[1:], ""), strict=False) if flag.startswith("--")}

        def number(flag: str, default: int | None) -> int | None:
            return int(given[flag]) if flag in given else default

        idle = given.get("--idle-timeout-s")
        return cls(
            sequence_length=number("--sequence-length", None),
            idle_timeout_ms=None if idle is None else round(float(idle) * 1000),
            capacity=number("--max-streams-per-partition", None),
            closing_events="--closing-events" in given,
            max_record_bytes=number("--max-record-bytes", cls.max_record_bytes) or 0,
            max_samples_per_record=number("--max-samples-per-record", cls.max_samples_per_record) or 0,
            anew=anew or {},
        )
