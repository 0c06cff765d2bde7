"""Where a partition begins: the exact state, or a refusal that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import CheckpointDamaged, CheckpointOfNewerVersion, CheckpointOfOtherModel, StateRefused
from worker.records import Position
from worker.recovery.note import Note, former_partitions
from worker.recovery.start import Log, Policies, Saved, Start, choose_start

DIGEST, OTHER = "a1" * 32, "b2" * 32


def begin(
    committed: int | None,
    checkpoints: dict[int, Saved | Exception] | None = None,
    low: int = 0,
    high: int = 1000,
    origin: int | None = 0,
    model: str = DIGEST,
    topic_id: str = "topic-1",
    remark: str | None = None,
    **policies: str,
) -> Start:
    checkpoints = checkpoints or {}

    def load(offset: int) -> Saved:
        found = checkpoints[offset]
        if isinstance(found, Exception):
            raise found
        return found

    text = str(Note(origin, model[:12], "topic-1", 4)) if remark is None else remark
    position = None if committed is None else Position(3, committed, text)
    former = former_partitions([] if position is None else [position])
    log = Log("samples", 3, topic_id, low, high, position, 4, former)
    return choose_start(log, sorted(checkpoints, reverse=True), load, DIGEST, Policies(**policies))


def saved(offset: int, digest: str = DIGEST, topic_id: str = "topic-1") -> Saved:
    return Saved(offset, topic_id, digest)


@given(st.sets(st.integers(0, 1000)), st.integers(0, 1000), st.integers(0, 1000), st.data())
def test_the_newest_sound_checkpoint_at_or_below_the_committed_offset_is_used(
    offsets: set[int], committed: int, low: int, data: Any
) -> None:
    low = min(low, committed)
    damaged = data.draw(st.sets(st.sampled_from(sorted(offsets))) if offsets else st.just(set()))
    store = {o: CheckpointDamaged("flipped") if o in damaged else saved(o) for o in offsets}
    usable = [o for o in offsets - damaged if low <= o <= committed]
    newest_sound = max((o for o in offsets - damaged if o <= committed), default=None)
    if newest_sound is not None and newest_sound >= low:
        start = begin(committed, store, low=low, origin=None)
        assert (start.next_offset, start.committed) == (max(usable), committed)
        assert start.saved == saved(max(usable))
    else:
        with pytest.raises(StateRefused, match="cannot be rebuilt"):
            begin(committed, store, low=low, origin=None)


def test_behind_a_newer_checkpoint_an_older_one_or_the_log_serves_and_else_the_newer_version_is_asked_for() -> None:
    newer: dict[int, Saved | Exception] = {600: CheckpointOfNewerVersion("format version 9")}
    start = begin(700, {**newer, 500: saved(500)})
    assert (start.next_offset, start.committed, start.saved) == (500, 700, saved(500))
    assert begin(700, newer).next_offset == 0
    with pytest.raises(StateRefused, match=r"format version 9.* Run the cellstream that wrote the newer checkpoints"):
        begin(700, newer, low=1)
    with pytest.raises(StateRefused, match="Point `checkpoints` at"):
        begin(700, {600: CheckpointDamaged("flipped")}, low=1)


@pytest.mark.parametrize("policy", ["on_lost_state", "on_model_change"])
def test_a_note_of_a_newer_version_is_refused_whatever_the_policies_say(policy: str) -> None:
    with pytest.raises(StateRefused, match="version 2, this cellstream reads version 1"):
        begin(700, {600: saved(600)}, remark="cellstream/2 origin=0", **{policy: "fresh"})


def test_a_new_group_begins_where_it_was_told_and_notes_it() -> None:
    assert begin(None, low=5) == Start(5, 5, 5, None, "new group, earliest")
    assert begin(None, start_from="latest").next_offset == 1000


def test_without_checkpoints_the_log_is_replayed_when_it_reaches_back_to_the_groups_beginning() -> None:
    start = begin(700, low=20, origin=20)
    assert (start.next_offset, start.committed, start.origin, start.saved) == (20, 700, 20, None)
    with pytest.raises(StateRefused, match="the log begins at 21"):
        begin(700, low=21, origin=20)


@pytest.mark.parametrize("remark", ["", "somebody else's note", "cell origin=0"])
def test_an_offset_without_our_note_is_no_proof_of_where_the_group_began(remark: str) -> None:
    with pytest.raises(StateRefused, match="on_lost_state"):
        begin(700, low=0, remark=remark)


def test_the_origin_is_carried_from_commit_to_commit() -> None:
    assert begin(700, {600: saved(600)}, origin=12).origin == 12
    assert begin(700, {600: saved(600)}, remark="").origin is None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("rebuild", Start(300, 700, 300, None, "")), ("fresh", Start(700, 700, 700, None, ""))],
)
def test_a_lost_state_follows_the_named_policy(policy: str, expected: Start) -> None:
    start = begin(700, {100: saved(100)}, low=300, origin=0, on_lost_state=policy)
    assert (start.next_offset, start.committed, start.origin) == (
        expected.next_offset,
        expected.committed,
        expected.origin,
    )


def test_records_deleted_beyond_the_committed_offset_are_never_skipped_silently() -> None:
    with pytest.raises(StateRefused, match="the log begins at 800"):
        begin(700, {700: saved(700)}, low=800)
    assert begin(700, {700: saved(700)}, low=800, on_lost_state="fresh").next_offset == 800


@pytest.mark.parametrize("evidence", ["checkpoint", "layout", "note"])
def test_another_model_follows_the_declared_policy_and_nothing_else(evidence: str) -> None:
    stores: dict[str, dict[int, Saved | Exception]] = {
        "checkpoint": {600: saved(600, OTHER)},
        "layout": {600: CheckpointOfOtherModel("another layout")},
        "note": {},
    }
    keywords: Any = {"model": OTHER} if evidence == "note" else {"remark": ""}
    with pytest.raises(StateRefused, match="on_model_change=rebuild"):
        begin(700, stores[evidence], on_lost_state="fresh", **keywords)
    rebuilt = begin(700, stores[evidence], low=50, on_model_change="rebuild", **keywords)
    assert (rebuilt.next_offset, rebuilt.committed) == (50, 700)
    assert begin(700, stores[evidence], on_model_change="fresh", **keywords).next_offset == 700


def test_a_state_that_was_given_up_for_another_model_is_never_taken_up_again() -> None:
    given_up: dict[int, Saved | Exception] = {600: saved(600, OTHER), 500: saved(500)}
    start = begin(700, given_up, origin=650, low=10)
    assert (start.next_offset, start.saved) == (650, None)


def test_a_topic_that_was_created_anew_is_refused() -> None:
    with pytest.raises(StateRefused, match="created anew"):
        begin(700, {600: saved(600)}, topic_id="topic-2")
    with pytest.raises(StateRefused, match="log ends at 30"):
        begin(700, {600: saved(600)}, high=30)
    with pytest.raises(StateRefused, match="former topic"):
        begin(700, {600: saved(600, topic_id="topic-0")}, origin=None)


def test_vanished_offsets_are_refused_while_there_is_state_and_policies_go_on() -> None:
    store: dict[int, Saved | Exception] = {600: saved(600), 400: saved(400)}
    with pytest.raises(StateRefused, match="on_lost_offsets=checkpoint"):
        begin(None, store)
    start = begin(None, store, on_lost_offsets="checkpoint")
    assert (start.next_offset, start.committed, start.saved) == (600, 600, saved(600))
    assert begin(None, store, on_lost_offsets="earliest", low=7).next_offset == 7
    assert begin(None, store, on_lost_offsets="latest").next_offset == 1000


NOTED = Position(0, 700, str(Note(0, DIGEST[:12], "topic-1", 4)))


def grown(partition: int, committed: Position | None, **policies: str) -> Start:
    """Begin on a topic that had four partitions when the group last committed, and has eight."""
    log = Log("samples", partition, "topic-1", 20, 1000, committed, 8, former_partitions([NOTED]))
    return choose_start(log, [700] if committed else [], lambda _: saved(700), DIGEST, Policies(**policies))


@pytest.mark.parametrize(("partition", "committed"), [(0, NOTED), (5, None)])
def test_a_topic_that_has_grown_is_refused_until_the_operator_accepts_it(
    partition: int, committed: Position | None
) -> None:
    with pytest.raises(StateRefused, match=r"has 8 partitions, it had 4 .* on_new_partitions=continue"):
        grown(partition, committed)


def test_a_new_partition_begins_at_its_first_record_wherever_a_new_group_would() -> None:
    accepted = {"on_new_partitions": "continue", "start_from": "latest"}
    assert grown(0, NOTED, **accepted).next_offset == 700
    assert grown(5, None, **accepted).next_offset == 20


@pytest.mark.parametrize("name", ["origin", "partitions", "schemas"])
def test_a_note_with_a_number_of_any_length_is_refused(name: str) -> None:
    of = {"origin": "0", "partitions": "4", "schemas": "0"} | {name: "9" * 5_000}
    note = f"cellstream origin={of['origin']} model=0 topic=t partitions={of['partitions']} schemas={of['schemas']}"
    with pytest.raises(StateRefused, match="does not know"):
        Note.of(Position(0, 1, note))


@given(
    st.none() | st.integers(0, 2**63 - 1),
    st.from_regex(r"\A[0-9a-f]{12}\Z"),
    st.from_regex(r"\A\S*\Z"),
    st.integers(1, 2**31 - 1),
)
def test_a_note_is_read_as_it_was_written(origin: int | None, model: str, topic_id: str, partitions: int) -> None:
    written = Note(origin, model, topic_id, partitions)
    assert Note.of(Position(0, 1, str(written))) == written
