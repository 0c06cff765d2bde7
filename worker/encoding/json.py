"""Probability events and closing events as bytes.

What does not change while a sequence lasts is written once, as its prefix. Probabilities are written as the
shortest text that reads back as the same float32, by orjson for a whole column at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, repeat

import numpy as np
import orjson
from numpy.typing import NDArray

from worker.state.sequences import REASONS, Closing, sequence_id


class ProbabilityEncoder:
    """Write the events of DESIGN.md's record contract.

    Args:
        classes: one name for a single probability, or one for each column of the output.
        model: the short artifact digest that every event names.
        decisions: names of what the artifact's rule can decide; none where it has no rule.
        before: stands in front of every event.
    """

    def __init__(self, classes: Sequence[str], model: str, decisions: Sequence[str] = (), before: bytes = b"") -> None:
        self._decisions = decisions
        self._columns = 1 if len(classes) == 1 else len(classes)
        if self._columns == 1:
            numbers = b'"probability":%b'
        else:
            members = b",".join(_escaped(orjson.dumps(name)) + b":%b" for name in classes)
            numbers = b'"probabilities":{' + members + b"}"
        # A prefix is kept for every live stream: what all of them would begin and end with is here.
        begin = _escaped(before) + b'{"stream_id":%b",'
        end = b',"timestamp":%d,"source":[%d,%d],"model":' + _escaped(orjson.dumps(model)) + b"}"
        self._template = begin + b'"timestep":%d,' + numbers + end
        self._closing = begin + b'"end_of_sequence":true,"reason":"%b","length":%d' + end

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """What all events of a sequence have alike, and other sequences not; `stream_id` is valid UTF-8."""
        return b'%b,"sequence":"%b' % (
            orjson.dumps(stream_id.decode()),
            sequence_id(partition, start, start_sample),
        )

    def encode(
        self,
        partition: int,
        prefixes: Sequence[bytes],
        timesteps: NDArray[np.int64],
        outputs: NDArray[np.float32],
        times: Sequence[int],
        offsets: Sequence[int],
        counts: NDArray[np.int64] | None = None,
    ) -> list[bytes]:
        """One event for each prefix.

        Args:
            partition: of the input topic.
            prefixes: of the events' sequences.
            timesteps: `(events,)` int64, of the first sample of each.
            outputs: `(samples, columns)` float32, contiguous.
            times: `(events,)` ms.
            offsets: `(events,)`.
            counts: `(events,)` int64, samples of each event, written as lists; None for one each, written as numbers.
        """
        if not prefixes:
            return []
        if counts is None:
            texts = orjson.dumps(outputs.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
            columns = [texts[i :: self._columns] for i in range(self._columns)]
        else:
            stops = np.cumsum(counts).tolist()
            bounds = list(pairwise([0, *stops]))
            columns = [
                [orjson.dumps(column[i:j], option=orjson.OPT_SERIALIZE_NUMPY) for i, j in bounds]
                for column in np.ascontiguousarray(outputs.T)
            ]
        rows = zip(prefixes, timesteps.tolist(), *columns, times, repeat(partition), offsets, strict=False)
        return list(map(self._template.__mod__, rows))

    @property
    def decides(self) -> bool:
        """Whether the model's answers have a column for decisions."""
        return len(self._decisions) > 0

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it.

        Args:
            event: as `encode` wrote it.
            number: of the decision, from 0.
            timestep: of the sample that decided, where the event has several.
        """
        at = b"" if timestep is None else b',"decision_timestep":%d' % timestep
        return b'%b,"decision":%b%b}' % (event[:-1], orjson.dumps(self._decisions[number]), at)

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        return self._closing % (prefix, REASONS[closing.reason].encode(), closing.length, time, partition, offset)


def _escaped(text: bytes) -> bytes:
    """Text that stands in a `%` template."""
    return text.replace(b"%", b"%%")
