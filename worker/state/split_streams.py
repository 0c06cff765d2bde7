"""Streams whose records come in several partitions, each of which would have a state of its own for them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

MOST_LOOKED_AT = 256


def split_streams(indexes: Mapping[int, dict[bytes, int]]) -> dict[bytes, list[int]]:
    """Look up the newest stream IDs of each partition in the others.

    A sample: the number of look-ups grows with the partitions and not with the streams or the records. A topic that is
    keyed by something else, or by two kinds of producers with different partitioners, splits so many streams that the
    newest ones show it.

    Args:
        indexes: of each partition, its live streams, oldest first.

    Returns:
        Of each stream found in more than one partition, those partitions, ascending.
    """
    if len(indexes) < 2:
        return {}
    share = max(4, MOST_LOOKED_AT // len(indexes))
    newest = {stream_id for index in indexes.values() for stream_id in islice(reversed(index), share)}
    homes = {stream_id: [p for p, index in indexes.items() if stream_id in index] for stream_id in newest}
    return {stream_id: sorted(found) for stream_id, found in homes.items() if len(found) > 1}
