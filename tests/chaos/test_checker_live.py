"""What must hold at every moment: nothing is found in an exact history, and each seeded violation by its name."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.chaos.checker.live import (
    Observation,
    Published,
    committed_when_readable,
    monotone,
    published_when_committed,
    saved_when_committed,
)
from tests.chaos.checker.records import Source, Violation

OUT = ("probabilities", 0)


def history(seed: int) -> tuple[list[Observation], list[Published], list[Source]]:
    """Transactions of two partitions into one output partition, looked at before, between and after each step."""
    random = Random(seed)
    observations: list[Observation] = []
    published: list[Published] = []
    readable: list[Source] = []
    committed, saved, end = [0, 0], [0, 0], 0

    def look() -> None:
        observations.append(
            Observation(float(len(observations)), len(readable), dict(enumerate(saved)), tuple(committed), {OUT: end})
        )

    for _ in range(60):
        partition, count = random.randrange(2), random.randint(1, 4)
        sources = [(partition, committed[partition] + i) for i in range(count)]
        for source in sources:
            published.append((OUT, end, source))
            end += 1
            look()
        committed[partition] += count
        look()
        end += 1  # the marker
        readable += sources
        look()
        if random.random() < 0.3:
            saved[partition] = committed[partition]
    return observations, published, readable


def found(observations: list[Observation], published: list[Published], seen: list[Source]) -> list[Violation]:
    return [
        *monotone(observations),
        *published_when_committed(observations, published),
        *committed_when_readable(observations, seen),
        *saved_when_committed(observations),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_an_exact_history_breaks_no_law(seed: int) -> None:
    assert found(*history(seed)) == []


def changed(seed: int, at: int, **fields: object) -> set[str]:
    observations, published, seen = history(seed)
    look = observations[at]
    committed = fields.pop("committed", look.committed)
    observations[at] = replace(look, committed=committed, **fields)
    return {violation.law for violation in found(observations, published, seen)}


def test_a_committed_offset_that_goes_back_is_found_unless_it_was_moved() -> None:
    observations, *_ = history(1)
    before = observations[90].committed
    earlier = tuple(offset - 1 for offset in before)
    assert "went back" in changed(1, 91, committed=earlier)
    assert "vanished" in changed(1, 91, committed=(-1001, -1001))
    moved = [*observations[:91], replace(observations[90], committed=earlier, forgiven=True)]
    assert monotone(moved) == []


def test_an_offset_that_is_committed_before_its_output_is_there_is_found() -> None:
    observations, *_ = history(2)
    ahead = tuple(offset + 5 for offset in observations[50].committed)
    assert "premature" in changed(2, 50, committed=ahead)


def test_an_output_that_can_be_read_before_its_offset_is_committed_is_found() -> None:
    observations, *_ = history(3)
    assert "uncommitted" in changed(3, 50, seen=observations[50].seen + 8)


def test_a_checkpoint_that_is_ahead_of_the_commits_is_found_once() -> None:
    observations, published, seen = history(4)
    late = observations[-1].committed[0]
    for at in (50, 51, 52):
        observations[at] = replace(observations[at], saved={0: late})
    violations = found(observations, published, seen)
    assert [(violation.law, violation.source) for violation in violations] == [("ahead", (0, late))]


def test_what_a_replay_publishes_again_is_not_blamed_on_the_first_commit() -> None:
    observations, published, seen = history(5)
    again = [(place, offset + 10_000, source) for place, offset, source in published[:10]]
    assert published_when_committed(observations, published + again) == []
    assert seen
