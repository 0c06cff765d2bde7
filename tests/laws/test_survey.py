"""What a broker that has just come back does not know yet is never taken for an answer."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition

from worker.errors import TransientFault
from worker.kafka.survey import take_survey


class Consumer:
    """Knows the group's offsets."""

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 7) for place in wanted]


class Admin:
    """Says of each log's end what it was told to, without an error, as the client was seen to do."""

    def __init__(self, offsets: dict[int, int]) -> None:
        self.offsets = offsets

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=self.offsets)})

    def list_offsets(self, wanted: dict[TopicPartition, Any], **options: Any) -> dict[TopicPartition, Future[Any]]:
        found = {}
        for place in wanted:
            found[place] = Future[Any]()
            found[place].set_result(SimpleNamespace(offset=self.offsets[place.partition]))
        return found


def test_an_offset_that_is_not_known_yet_is_neither_a_begin_nor_an_end() -> None:
    with pytest.raises(TransientFault, match=r"not known yet for partitions \[1\]"):
        take_survey(Consumer(), Admin({0: 9, 1: OFFSET_INVALID}), "samples", [0, 1])


def test_bounds_that_are_known_are_told() -> None:
    survey = take_survey(Consumer(), Admin({0: 9, 1: 0}), "samples", [0, 1])
    assert survey.bounds == {0: (9, 9), 1: (0, 0)}
    assert (survey.partitions, survey.committed[1].offset) == (2, 7)
