"""Laws of the question whether a store keeps the conditions of puts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkpoints.snapshots import LAYOUT, TOPIC, make_snapshot
from tests.stores.faulty import LOST, REFUSED, Bucket, Fault, FaultyObjects
from worker.checkpoint import CheckpointStore, CheckpointWriter, WriteFailed
from worker.checkpoint.conditions import require_conditions
from worker.checkpoint.remote import RemoteFolders
from worker.errors import StoreUnavailable, UsageError

FAULTS = st.lists(st.sampled_from((None, None, REFUSED, LOST)), max_size=8)


def store_of(objects: FaultyObjects) -> CheckpointStore:
    return CheckpointStore("s3://bucket", "group", LAYOUT, folders=RemoteFolders(objects))


@given(faults=FAULTS)
def test_store_that_keeps_conditions_is_never_refused_whatever_fails(faults: list[Fault | None]) -> None:
    objects = FaultyObjects(Bucket())
    objects.faults = list(faults)
    with suppress(StoreUnavailable):
        require_conditions(objects, "key")
    objects.faults = []
    require_conditions(objects, "key")
    assert objects.bucket.found == {}


@given(faults=FAULTS, keeps=st.sampled_from([(), ("create",), ("replace",)]))
def test_store_that_ignores_one_is_refused_as_soon_as_it_has_answered(
    faults: list[Fault | None], keeps: tuple[str, ...]
) -> None:
    bucket = Bucket()
    bucket.keeps = keeps
    objects = FaultyObjects(bucket)
    objects.faults = list(faults)
    with suppress(StoreUnavailable), pytest.raises(UsageError, match="ignores the conditions"):
        require_conditions(objects, "key")
    objects.faults = []
    with pytest.raises(UsageError, match="ignores the conditions"):
        require_conditions(objects, "key")


def test_question_leaves_nothing_behind_and_is_asked_once() -> None:
    bucket = Bucket()
    objects = FaultyObjects(bucket)
    store = store_of(objects)
    store.prove()
    assert bucket.found == {}
    asked = len(objects.requests)
    store.prove()
    assert len(objects.requests) == asked


def test_nothing_is_published_before_the_store_has_answered() -> None:
    bucket = Bucket()
    objects = FaultyObjects(bucket)
    writer = CheckpointWriter(store_of(objects), keep=2)
    objects.faults = [REFUSED]
    writer.submit(make_snapshot(10))
    assert writer.wait(60)
    (failed,) = writer.results()
    assert isinstance(failed, WriteFailed)
    assert bucket.found == {}
    writer.submit(make_snapshot(20))
    assert writer.close(60)
    assert [ref.next_offset for ref in store_of(objects).refs(TOPIC, 0)] == [20]


def test_directory_needs_no_conditions(tmp_path: Path) -> None:
    CheckpointStore(str(tmp_path), "group", LAYOUT).prove()
    assert list(tmp_path.iterdir()) == []
