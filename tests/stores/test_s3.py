"""The contract with an S3 server, and what is left when requests fail on their way."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from tests.checkpoints.snapshots import LAYOUT, TOPIC, assert_equal, make_snapshot
from tests.stores.conftest import IMPATIENT
from tests.stores.proxy import Proxy
from tests.stores.servers import Server, wanted
from worker.checkpoint import CheckpointStore, CheckpointWriter, WriteFailed, Written
from worker.checkpoint import objects as remote_objects
from worker.checkpoint.objects import Outdated
from worker.checkpoint.pointer import NAME
from worker.checkpoint.s3 import S3Objects
from worker.errors import StoreUnavailable, TransientFault, UsageError


def open_store(url: str) -> CheckpointStore:
    return CheckpointStore(url, "group", LAYOUT)


def offsets(store: CheckpointStore) -> list[int]:
    refs = store.refs(TOPIC, 0)
    for ref in refs:
        assert_equal(store.read(ref), make_snapshot(ref.next_offset))
    return [ref.next_offset for ref in refs]


def test_checkpoints_come_back_newest_first_and_old_ones_go(url: str) -> None:
    store = open_store(url)
    assert store.refs(TOPIC, 0) == []
    removed = []
    for offset in (100, 200, 300, 400):
        store.write(make_snapshot(offset))
        removed += [ref.next_offset for ref in store.collect(TOPIC, 0, offset, keep=2)]
    assert removed == [100, 200]
    assert offsets(store) == offsets(open_store(url)) == [400, 300]
    assert (store.topics(), store.partitions(TOPIC)) == ([TOPIC], [0])
    objects = S3Objects(url)
    assert len(objects.list(f"group/{TOPIC}/0")) == 3


def test_put_with_a_condition_that_does_not_hold_changes_nothing(url: str) -> None:
    objects = S3Objects(url)
    with pytest.raises(Outdated):
        objects.swap("key", b"new", '"of another"')
    assert objects.read("key", 100) is None
    objects.swap("key", b"first", None)
    _, tag = objects.read("key", 100) or (b"", "")
    for other in (None, '"of another"'):
        with pytest.raises(Outdated):
            objects.swap("key", b"new", other)
    assert objects.read("key", 100) == (b"first", tag)
    objects.swap("key", b"second", tag)
    assert (objects.read("key", 3) or (b"", ""))[0] == b"seco", "one byte more than asked for says that there is more"
    with pytest.raises(Outdated):
        objects.swap("key", b"third", tag)


def test_object_of_many_pieces_comes_back_whole_and_no_more_of_it_than_asked_for(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)  # the proxy would only make it slower
    monkeypatch.setattr(remote_objects, "PIECE_BYTES", 1_000_000)
    monkeypatch.setattr(S3Objects, "upload_options", {"chunksize": 5 * 1024 * 1024, "max_concurrency": 2})
    objects = S3Objects(url)
    content = bytes(range(256)) * 42_000 + b"and a rest"  # three parts
    path = tmp_path / "object"
    path.write_bytes(content)
    objects.upload("big", str(path))
    assert objects.size("big") == len(content)
    for most in (len(content), 1_000_007):
        with path.open("w+b") as file:
            objects.download("big", file, most)
        assert path.read_bytes() == content[: most + 1]


def test_bucket_that_is_not_there_is_a_fault_and_not_an_empty_store(url: str) -> None:
    missing = CheckpointStore(f"s3://missing-{uuid4().hex}/prefix", "group", LAYOUT)
    with pytest.raises(StoreUnavailable, match="bucket"):
        missing.refs(TOPIC, 0)


def test_adapter_that_is_not_installed_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(UsageError, match=r"cellstream\[s3\]"):
        open_store("s3://bucket/prefix")


def test_login_that_the_store_refuses_is_said(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if server.kind == "moto":
        pytest.skip("moto checks no signatures; `make stores` asks MinIO")  # real credentials are not looked at there
    open_store(url).write(make_snapshot(100))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreUnavailable, match="signature"):
        open_store(url).refs(TOPIC, 0)


# One of each kind on the way to CI, where time is short; all of them with MinIO.
ONCE = [
    ("slow down", "GET", NAME),
    ("tear answer", "GET", NAME),
    ("refuse", "PUT", ".h5"),
    ("tear", "PUT", ".h5"),
    ("lose", "PUT", NAME),
]
FOR_LONG = [("denied", "PUT"), ("full", "PUT"), ("hang", "any"), ("slow down", "any")]
if wanted() == "minio":
    PLACES = [("HEAD", ".h5"), *((method, path) for _, method, path in ONCE)]
    ONCE += [(harm, *place) for harm in ("slow down", "refuse", "lose", "tear") for place in PLACES]
    ONCE = [entry for entry in dict.fromkeys(ONCE) if entry[0] != "tear" or entry[1] == "PUT"]
    FOR_LONG = [
        (harm, method) for harm in ("denied", "full", "hang", "refuse", "slow down") for method in ("PUT", "any")
    ]


@pytest.mark.parametrize(("harm", "method", "path"), ONCE)
def test_one_request_that_fails_is_made_again(proxy: Proxy, url: str, harm: str, method: str, path: str) -> None:
    store = open_store(url)
    store.write(make_snapshot(100))
    happened = proxy.once(harm, method, path)
    try:
        store.write(make_snapshot(200))
    except TransientFault:
        assert harm == "tear answer", "what was cut in the middle of an answer is left to the next checkpoint"
        store.write(make_snapshot(200))
    assert happened()
    assert offsets(open_store(url)) == [200, 100]


@pytest.mark.parametrize(("harm", "method"), FOR_LONG)
def test_store_that_refuses_for_long_delays_a_checkpoint_and_leaves_the_ones_before(
    proxy: Proxy, url: str, harm: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(url).write(make_snapshot(100))
    with monkeypatch.context() as patch:
        if harm == "hang":
            patch.setitem(fsspec.config.conf, "s3", IMPATIENT)
        store = open_store(url)
    proxy.harm = lambda found, path: harm if method in (found, "any") else None
    writer = CheckpointWriter(store, keep=2)
    writer.submit(make_snapshot(200))
    assert writer.wait(300)
    (failed,) = writer.results()
    assert isinstance(failed, WriteFailed)
    assert isinstance(failed.error, StoreUnavailable)
    proxy.harm = lambda found, path: None
    assert offsets(open_store(url)) == [100]
    assert writer.close(300)
    if harm == "hang":
        return  # so little patience is not for a busy machine
    writer = CheckpointWriter(store, keep=2)
    writer.submit(make_snapshot(300))
    assert writer.close(300)
    (written,) = writer.results()
    assert isinstance(written, Written)
    assert offsets(open_store(url)) == [300, 100]


def test_owner_that_stands_still_within_its_put_is_overtaken_and_gives_up(proxy: Proxy, url: str) -> None:
    """Two writers, as a frozen process and its successor are."""
    old, new = open_store(url), open_store(url)
    old.write(make_snapshot(100))
    reached, go_on = threading.Event(), threading.Event()

    def stands_still(method: str, path: str) -> str | None:
        if method == "PUT" and NAME in path and not reached.is_set():
            reached.set()
            assert go_on.wait(300)
        return None

    proxy.harm = stands_still
    faults: list[Exception] = []

    def write() -> None:
        try:
            old.write(make_snapshot(200))
        except TransientFault as fault:
            faults.append(fault)

    thread = threading.Thread(target=write)
    thread.start()
    assert reached.wait(300)
    new.refs(TOPIC, 0)
    new.write(make_snapshot(300))
    go_on.set()
    thread.join(300)
    assert "another worker has published 300" in str(faults)
    assert offsets(open_store(url)) == [300, 100]
