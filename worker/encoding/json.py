"""Probability events and closing events in JSON.

What does not change while a sequence lasts is written once, as its prefix. Probabilities are written as the
shortest text that reads back as the same float32, by orjson for a whole column at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import orjson

from worker.encoding.encoder import Answers, Encoder
from worker.state.sequences import REASONS, Closing, sequence_id


class JsonEncoder(Encoder):
    """Write events in JSON.

    Args:
        classes: one name for a single probability, or one for each column of the output.
        model: the short artifact digest that every event names.
        decisions: names of what the artifact's rule can decide; none where it has no rule.
        before: stands in front of every event.
    """

    def __init__(self, classes: Sequence[str], model: str, decisions: Sequence[str] = (), before: bytes = b"") -> None:
        super().__init__(decisions)
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
        """The part of an event that is the same for a whole sequence."""
        return b'%b,"sequence":"%b' % (
            orjson.dumps(stream_id.decode()),
            sequence_id(partition, start, start_sample),
        )

    def encode(self, answers: Answers) -> list[bytes]:
        """One event for each prefix."""
        outputs = answers.outputs
        if answers.counts is None:
            texts = orjson.dumps(outputs.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
            columns = [texts[i :: self._columns] for i in range(self._columns)]
        else:
            bounds = answers.bounds()
            columns = [
                [orjson.dumps(column[i:j], option=orjson.OPT_SERIALIZE_NUMPY) for i, j in bounds]
                for column in np.ascontiguousarray(outputs.T)
            ]
        here = repeat(answers.partition)
        rows = zip(
            answers.prefixes, answers.timesteps.tolist(), *columns, answers.times, here, answers.offsets, strict=False
        )
        return list(map(self._template.__mod__, rows))

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it."""
        at = b"" if timestep is None else b',"decision_timestep":%d' % timestep
        return b'%b,"decision":%b%b}' % (event[:-1], orjson.dumps(self.decisions[number]), at)

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        return self._closing % (prefix, REASONS[closing.reason].encode(), closing.length, time, partition, offset)


def _escaped(text: bytes) -> bytes:
    """Text that stands in a `%` template."""
    return text.replace(b"%", b"%%")
