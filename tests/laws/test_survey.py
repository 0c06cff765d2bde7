"""What the broker says of a log is taken only where it has said it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition
from confluent_kafka.admin import OffsetSpec

from worker.errors import TransientFault
from worker.kafka.survey import take_survey

EARLIEST = OffsetSpec.earliest()._value


class Client:
    """Consumer and administration of a topic whose brokers answer at once.

    Args:
        low: first offset of each partition.
        high: the one behind the last.
    """

    def __init__(self, low: Mapping[int, int], high: Mapping[int, int]) -> None:
        self._bounds = {True: low, False: high}

    def list_topics(self, topic: str, **_: object) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=dict.fromkeys((0, 1)))})

    def committed(self, places: list[TopicPartition], **_: object) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 5) for place in places]

    def list_offsets(self, asked: Mapping[TopicPartition, OffsetSpec], **_: object) -> dict[TopicPartition, Any]:
        found: dict[TopicPartition, Any] = {}
        for place, spec in asked.items():
            found[place] = Future()
            offset = self._bounds[spec._value == EARLIEST][place.partition]
            found[place].set_result(SimpleNamespace(offset=offset))
        return found


def test_bounds_are_those_of_each_partition() -> None:
    client = Client({0: 3, 1: 0}, {0: 9, 1: 5})
    assert take_survey(client, client, "samples", (0, 1)).bounds == {0: (3, 9), 1: (0, 5)}


@pytest.mark.parametrize(("low", "high"), [(OFFSET_INVALID, 9), (3, OFFSET_INVALID)], ids=["begin", "end"])
def test_a_bound_that_nobody_has_told_is_asked_for_again_and_never_taken_for_an_offset(low: int, high: int) -> None:
    # Taken for the end it would look as if the log had been cut off below the committed offset, and be refused.
    client = Client({0: 3, 1: low}, {0: 9, 1: high})
    with pytest.raises(TransientFault, match=r"log bounds of samples: no answer for partitions \[1\]"):
        take_survey(client, client, "samples", (0, 1))
