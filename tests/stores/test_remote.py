"""Laws of checkpoints in an object store, whatever its requests do: two workers, faults at every request."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.snapshots import LAYOUT, TOPIC, assert_equal, make_snapshot
from tests.stores.faulty import LOST, REFUSED, TORN, Bucket, Fault, FaultyObjects
from worker.checkpoint import CheckpointRef, CheckpointStore
from worker.checkpoint.pointer import NAME
from worker.checkpoint.remote import ORPHAN_AGE_S, RemoteFolders
from worker.errors import CheckpointDamaged, StoreUnavailable, TransientFault

FOLDER = f"group/{TOPIC}/0"
POINTER = f"{FOLDER}/{NAME}"


# No two snapshots are taken at the same time, so that their files differ.
CLOCK = count(1_700_000_000_000)


class Member:
    """A worker's side of a store, with a time of its own."""

    def __init__(self, bucket: Bucket) -> None:
        self.objects = FaultyObjects(bucket)
        self.folders = RemoteFolders(self.objects, now=lambda: bucket.now)
        self.store = CheckpointStore("s3://bucket", "group", LAYOUT, folders=self.folders)

    def refs(self) -> list[CheckpointRef]:
        return self.store.refs(TOPIC, 0)

    def offsets(self) -> list[int]:
        return [ref.next_offset for ref in self.refs()]

    def write(self, offset: int, *faults: Fault | None) -> CheckpointRef:
        self.objects.faults = list(faults)
        self.objects.requests.clear()
        try:
            return self.store.write(make_snapshot(offset, created_ms=next(CLOCK)))
        finally:
            self.objects.faults = []

    def collect(self, committed: int, *faults: Fault | None) -> list[CheckpointRef]:
        self.objects.faults = list(faults)
        try:
            return self.store.collect(TOPIC, 0, committed, keep=2)
        finally:
            self.objects.faults = []


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def assert_sound(bucket: Bucket, offsets: list[int]) -> None:
    """A worker that comes now finds these, newest first, whole."""
    reader = Member(bucket)
    found = [ref.next_offset for ref in reader.refs()]
    assert found == offsets
    for ref in reader.refs():
        assert_whole(reader.store, ref)


def assert_whole(store: CheckpointStore, ref: CheckpointRef) -> None:
    snapshot = store.read(ref)
    assert_equal(snapshot, make_snapshot(ref.next_offset, created_ms=snapshot.created_ms))


FAULTS = st.lists(st.sampled_from((None, None, None, REFUSED, LOST, TORN)), max_size=14)
WRITES = st.tuples(st.just("write"), st.integers(0, 1), st.integers(0, 30), FAULTS)
FROZEN = st.tuples(st.just("frozen"), st.integers(0, 1), st.integers(0, 5), st.integers(0, 30))
RESTORES = st.tuples(st.just("restore"), st.integers(0, 1))
DAMAGES = st.just(("damage",))


@settings(deadline=None, max_examples=50)
@given(acts=st.lists(st.one_of(WRITES, WRITES, FROZEN, RESTORES, DAMAGES), max_size=12))
def test_whatever_fails_the_newest_whole_checkpoint_or_the_one_before_it_is_found_and_never_a_torn_one(
    acts: list[Any],
) -> None:
    bucket = Bucket()
    members = [Member(bucket), Member(bucket)]
    done: list[int] = []
    tried: set[int] = set()
    committed = 100  # more than the records that the snapshots are made of

    def act(member: Member, offset: int, *faults: Fault | None) -> None:
        tried.add(offset)
        with suppress(TransientFault):
            member.write(offset, *faults[:8])
            done.append(offset)
            member.collect(offset, *faults[8:])

    for kind, *rest in acts:
        if kind == "write":
            which, moved, faults = rest
            committed += moved
            act(members[which], committed, *faults)
        elif kind == "frozen":  # within a request of one worker, the other one takes over and goes on
            which, request, moved = rest
            late = committed

            def takes_over(other: Member = members[1 - which], moved: int = moved) -> None:
                nonlocal committed
                committed += moved
                other.refs()
                act(other, committed)

            act(members[which], late, *[None] * request, takes_over)
        elif kind == "restore":
            members[rest[0]].refs()
        elif POINTER in bucket.found:
            bucket.put(POINTER, b"{")

        found = Member(bucket)
        refs = found.refs()
        assert {ref.next_offset for ref in refs} <= tried
        sound = []
        for ref in refs:
            with suppress(CheckpointDamaged):
                assert_whole(found.store, ref)
                sound.append(ref.next_offset)
        # One whose publication failed counts, too, where a listing stood in for a damaged pointer.
        assert max(done, default=-1) in (*sound, -1), (done, sound)
        assert len(set(sound)) >= min(2, len(set(done))), (done, sound)


def test_requests_of_a_publication_come_in_this_order(bucket: Bucket) -> None:
    """The pointer goes last, and nobody lists anything but where there is no pointer yet."""
    member = Member(bucket)
    first, second = member.write(10), member.write(20)
    assert member.objects.requests == [f"read {NAME}", f"upload {second.name}", f"size {second.name}", f"swap {NAME}"]
    member.objects.requests.clear()
    assert member.refs() == [second, first]
    assert member.objects.requests == [f"read {NAME}"]


def test_store_that_is_down_is_noticed_before_a_file_is_built(bucket: Bucket) -> None:
    built = False

    def build(file: Any) -> str:
        nonlocal built
        built = True
        return "never"

    member = Member(bucket)
    member.objects.faults = [REFUSED]
    with pytest.raises(StoreUnavailable):
        member.folders.publish(FOLDER, build)
    assert not built


def test_upload_of_which_the_store_has_lost_a_part_is_not_pointed_to(bucket: Bucket) -> None:
    member = Member(bucket)
    member.write(10)
    with pytest.raises(StoreUnavailable, match="arrived"):
        member.write(20, None, TORN)
    assert_sound(bucket, [10])
    member.write(20)
    assert_sound(bucket, [20, 10])


def test_put_whose_answer_was_lost_is_recognised_as_done(bucket: Bucket) -> None:
    member = Member(bucket)
    member.write(10)
    assert member.write(20, None, None, None, LOST).next_offset == 20
    assert_sound(bucket, [20, 10])


def test_frozen_owner_that_comes_late_is_given_up_and_removes_nothing(bucket: Bucket) -> None:
    old, new = Member(bucket), Member(bucket)
    for offset in (10, 20):
        old.write(offset)

    def takes_over() -> None:
        new.refs()
        for offset in (40, 50):
            new.write(offset)

    with pytest.raises(TransientFault, match="another worker has published 50"):
        old.write(30, None, None, None, takes_over)
    assert_sound(bucket, [50, 40, 20, 10])
    assert not any("00030-" in key for key in bucket.found), "its object is removed"
    new.write(60)
    with pytest.raises(TransientFault, match="another worker has published 60"):
        old.write(35)
    assert_sound(bucket, [60, 50, 40, 20, 10])


def test_owner_that_begins_anew_below_the_former_offsets_is_not_taken_for_a_late_one(bucket: Bucket) -> None:
    Member(bucket).write(1000)
    owner = Member(bucket)
    owner.refs()
    for offset in (10, 20, 30):
        owner.write(offset)
        owner.collect(offset)
    assert_sound(bucket, [1000, 30, 20])


def test_two_workers_that_put_at_once_lose_neither_checkpoint(bucket: Bucket) -> None:
    one, other = Member(bucket), Member(bucket)
    one.refs()
    other.refs()
    one.write(20, None, None, None, lambda: other.write(10) and None)
    assert_sound(bucket, [20, 10])


@pytest.mark.parametrize("pointer", [None, b"", b"{", b"[]", b'{"format":2}', b"\xff" * 100])
def test_pointer_that_is_missing_or_damaged_is_made_anew_from_the_names(bucket: Bucket, pointer: bytes | None) -> None:
    member = Member(bucket)
    for offset in (10, 20):
        member.write(offset)
    bucket.put(f"{FOLDER}/notes.txt", b"of somebody")
    if pointer is None:
        del bucket.found[POINTER]
    else:
        bucket.put(POINTER, pointer)
    assert_sound(bucket, [20, 10])
    Member(bucket).write(30)
    assert_sound(bucket, [30, 20, 10])
    assert NAME in {key.rpartition("/")[2] for key in bucket.found}


def test_listing_of_the_past_hides_nothing_that_the_pointer_names(bucket: Bucket) -> None:
    member = Member(bucket)
    bucket.listed = {}
    for offset in (10, 20):
        member.write(offset)
    assert_sound(bucket, [20, 10])
    assert [ref.next_offset for ref in member.collect(20)] == []
    bucket.now += 2 * ORPHAN_AGE_S
    bucket.listed = {f"{FOLDER}/{ref.name}": 1 for ref in member.refs()}
    Member(bucket).collect(20)
    assert_sound(bucket, [20, 10])


def test_objects_that_no_pointer_names_go_after_a_day(bucket: Bucket) -> None:
    member = Member(bucket)
    member.write(10)
    with pytest.raises(StoreUnavailable):
        member.write(20, None, None, None, REFUSED)
    assert any("00020-" in key for key in bucket.found), "the put may still arrive"
    Member(bucket).collect(10)
    assert any("00020-" in key for key in bucket.found)
    bucket.now += ORPHAN_AGE_S + 1
    Member(bucket).collect(10)
    assert not any("00020-" in key for key in bucket.found)
    assert_sound(bucket, [10])


def test_object_is_deleted_only_when_no_pointer_names_it_any_more(bucket: Bucket) -> None:
    member = Member(bucket)
    for offset in (10, 20, 30):
        member.write(offset)
    with pytest.raises(StoreUnavailable):
        member.collect(30, None, None, REFUSED)  # the listing of what is there, the look at the pointer, the put
    assert_sound(bucket, [30, 20, 10])
    assert [ref.next_offset for ref in member.collect(30)] == [10]
    assert_sound(bucket, [30, 20])


def test_store_that_always_changes_under_the_put_is_given_up(bucket: Bucket) -> None:
    one, other = Member(bucket), Member(bucket)
    one.write(100)
    offsets = iter(range(101, 200))
    interrupt: list[Fault | None] = [None, None, None]
    for _ in range(20):
        interrupt += [lambda: other.write(next(offsets)) and None, None]
    with pytest.raises(StoreUnavailable, match="all the time"):
        one.write(1000, *interrupt)
