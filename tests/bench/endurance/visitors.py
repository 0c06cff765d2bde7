"""A publisher of streams that come, stay for a while, and end; some just fall silent.

    python -m tests.bench.endurance.visitors RATE SECONDS STREAMS FEATURES    settings come from CELLSTREAM_* variables

At any time so many streams are there. Each has `LENGTH` samples, the last of which ends its sequence; where a stream
leaves, one that was never seen before takes its place. One in `SILENT` leaves without a word.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from worker.bench.open_loop import SEED, publish
from worker.bench.volley import Traffic
from worker.settings.sources import load_settings

LENGTH = 100
SILENT = 50


def visits(streams: int, features: int) -> Iterator[tuple[bytes, bytes]]:
    """Values and keys, the streams in turn, without an end. The first streams have begun before and end sooner."""
    values = Traffic(features).values(np.random.default_rng(SEED))
    ends = [msgspec.json.encode(msgspec.json.decode(value) | {"end_of_sequence": True}) for value in values]
    keys = [b"visitor-%d" % number for number in range(streams)]
    born = streams
    for turn in itertools.count():
        value, end = values[turn % len(values)], ends[turn % len(ends)]
        for place in range(streams):
            if (turn + place + 1) % LENGTH:
                yield value, keys[place]
            else:
                yield (end if born % SILENT else value), keys[place]
                keys[place] = b"visitor-%d" % born
                born += 1


def main(arguments: Sequence[str]) -> None:
    """Publish, and say how it went."""
    rate, seconds, streams, features = arguments
    records = visits(int(streams), int(features))
    print(json.dumps(publish(load_settings({}, os.environ, None), float(rate), float(seconds), records)))


if __name__ == "__main__":
    main(sys.argv[1:])
