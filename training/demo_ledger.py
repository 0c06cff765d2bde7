"""The demo's books: every sample that went in, every probability that came out, and what Keras says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.evaluation import accuracy_by_share, decide


class _Event(msgspec.Struct):
    """What the demo reads of a probability event; its other fields are not needed here."""

    stream_id: str
    timestep: int
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What a replay came to.

    Attributes:
        samples: sent.
        probabilities: received, doubled ones included.
        missing: samples without a probability.
        doubled: probabilities beyond the first of a sample.
        foreign: records that are no probability of a sample that was sent.
        accuracy: by share of each sequence, "25%" to "100%".
        latency_p50_ms: from producing a sample to receiving its probability, half are faster.
        latency_p99_ms: the same for 99 in 100.
        largest_difference: between a published probability and Keras on the sequence so far, over all classes.
        limit: what that may be: the tolerance of the artifact's certificate.
    """

    samples: int
    probabilities: int
    missing: int
    doubled: int
    foreign: int
    accuracy: dict[str, float]
    latency_p50_ms: float
    latency_p99_ms: float
    largest_difference: float
    limit: float

    @property
    def problems(self) -> list[str]:
        """What must not be: empty when there is one right probability for each sample."""
        found = []
        if self.missing:
            found.append(f"{self.missing:,} samples have no probability")
        if self.doubled:
            found.append(f"{self.doubled:,} probabilities came twice")
        if self.foreign:
            found.append(f"{self.foreign:,} records belong to no sample")
        if not self.largest_difference <= self.limit:
            found.append(f"a probability differs from Keras by {self.largest_difference:.2g}, limit {self.limit:.2g}")
        return found

    def to_json(self) -> dict[str, Any]:
        """All fields and the verdict."""
        return {**asdict(self), "problems": self.problems}


class Ledger:
    """Joins samples and probabilities by stream and timestep.

    Args:
        stream_ids: of the streams.
        expected: for each stream what Keras says after every timestep, `(timesteps, classes)` float32.
        labels: `(streams,)` indices of classes.
        classes: names, in the model's order.
        limit: largest difference between a published probability and Keras.

    Attributes:
        received: for each stream `(timesteps, classes)` float64, NaN where nothing has come yet.
        samples: sent so far.
        probabilities: received so far.
    """

    def __init__(
        self,
        stream_ids: Sequence[str],
        expected: Sequence[NDArray[np.float32]],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        limit: float,
    ) -> None:
        self.stream_ids = tuple(stream_ids)
        self.labels = labels
        self.classes = tuple(classes)
        self.received = [np.full(answers.shape, np.nan) for answers in expected]
        self.samples = 0
        self.probabilities = 0
        self._limit = limit
        self._expected = expected
        self._row = {stream_id: row for row, stream_id in enumerate(stream_ids)}
        self._sent_s = [np.full(len(answers), np.nan) for answers in expected]
        self._latencies_s: list[float] = []
        self._doubled = 0
        self._foreign = 0

    @property
    def total(self) -> int:
        """Samples of all sequences."""
        return sum(map(len, self._expected))

    @property
    def complete(self) -> bool:
        """Every sample of every sequence has a probability."""
        return len(self._latencies_s) == self.total

    def sent(self, stream_id: str, now_s: float) -> None:
        """The next sample of a stream is on its way."""
        times = self._sent_s[self._row[stream_id]]
        times[int(np.isnan(times).argmax())] = now_s
        self.samples += 1

    def receive(self, value: bytes | None, now_s: float) -> None:
        """Book a record of the output topic."""
        try:
            event = msgspec.json.decode(value or b"", type=_Event)
            row, timestep = self._row[event.stream_id], event.timestep
            sent_s = self._sent_s[row][timestep] if timestep >= 0 else np.nan
            answer = [event.probabilities[name] for name in self.classes]
        except (msgspec.MsgspecError, KeyError, IndexError):
            self._foreign += 1
            return
        if np.isnan(sent_s) or len(event.probabilities) != len(self.classes):
            self._foreign += 1
            return
        self.probabilities += 1
        if not np.isnan(self.received[row][timestep]).all():
            self._doubled += 1
            return
        self.received[row][timestep] = answer
        self._latencies_s.append(now_s - sent_s)

    def right_now(self) -> int:
        """Streams whose latest probabilities decide for their true class."""
        right = 0
        for answers, label in zip(self.received, self.labels, strict=True):
            known = answers[~np.isnan(answers[:, 0])]
            right += len(known) > 0 and int(decide(known[-1])) == label
        return right

    def report(self) -> Report:
        """Close the books."""
        differences = [np.abs(got - want) for got, want in zip(self.received, self._expected, strict=True)]
        known = np.concatenate([difference[~np.isnan(difference)] for difference in differences])
        latencies_ms = 1e3 * np.array(self._latencies_s or [np.nan])
        p50, p99 = (float(np.percentile(latencies_ms, share)) for share in (50, 99))
        return Report(
            samples=self.samples,
            probabilities=self.probabilities,
            missing=self.samples - len(self._latencies_s),
            doubled=self._doubled,
            foreign=self._foreign,
            accuracy=accuracy_by_share([np.nan_to_num(answers, nan=-1.0) for answers in self.received], self.labels),
            latency_p50_ms=round(p50, 1),
            latency_p99_ms=round(p99, 1),
            largest_difference=float(known.max()) if len(known) else float("nan"),
            limit=self._limit,
        )
