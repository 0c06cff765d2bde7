"""The contract with a store's server, and what is left when requests fail on their way."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from tests.checkpoints.snapshots import LAYOUT, TOPIC, assert_equal, make_snapshot
from tests.stores.clouds import CLOUDS, SECRET, Azure, Cloud
from tests.stores.proxy import Proxy
from tests.stores.servers import KINDS, REAL, Server
from worker.checkpoint import CheckpointStore, CheckpointWriter, WriteFailed, Written
from worker.checkpoint import objects as remote_objects
from worker.checkpoint.objects import Outdated
from worker.checkpoint.pointer import NAME
from worker.errors import StoreUnavailable, TransientFault, UsageError


def open_store(url: str) -> CheckpointStore:
    return CheckpointStore(url, "group", LAYOUT)


def offsets(store: CheckpointStore) -> list[int]:
    refs = store.refs(TOPIC, 0)
    for ref in refs:
        assert_equal(store.read(ref), make_snapshot(ref.next_offset))
    return [ref.next_offset for ref in refs]


def test_checkpoints_come_back_newest_first_and_old_ones_go(cloud: Cloud, url: str) -> None:
    store = open_store(url)
    assert store.refs(TOPIC, 0) == []
    removed = []
    for offset in (100, 200, 300, 400):
        store.write(make_snapshot(offset))
        removed += [ref.next_offset for ref in store.collect(TOPIC, 0, offset, keep=2)]
    assert removed == [100, 200]
    assert offsets(store) == offsets(open_store(url)) == [400, 300]
    assert (store.topics(), store.partitions(TOPIC)) == ([TOPIC], [0])
    assert len(cloud.objects(url).list(f"group/{TOPIC}/0")) == 3


def test_put_with_a_condition_that_does_not_hold_changes_nothing(cloud: Cloud, url: str) -> None:
    objects = cloud.objects(url)
    objects.swap("other", b"", None)
    empty, other = objects.read("other", 100) or (b"-", "")
    assert empty == b""
    with pytest.raises(Outdated):
        objects.swap("key", b"new", other)
    assert objects.read("key", 100) is None
    objects.swap("key", b"first", None)
    _, tag = objects.read("key", 100) or (b"", "")
    for outdated in (None, other):
        with pytest.raises(Outdated):
            objects.swap("key", b"new", outdated)
    assert objects.read("key", 100) == (b"first", tag)
    objects.swap("key", b"second", tag)
    assert (objects.read("key", 3) or (b"", ""))[0] == b"seco", "one byte more than asked for says that there is more"
    with pytest.raises(Outdated):
        objects.swap("key", b"third", tag)


def test_object_of_many_pieces_comes_back_whole_and_no_more_of_it_than_asked_for(
    server: Server, cloud: Cloud, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.environment(server.endpoint).items():
        monkeypatch.setenv(name, value)  # the proxy would only make it slower
    monkeypatch.setattr(remote_objects, "PIECE_BYTES", 1_000_000)
    monkeypatch.setitem(cloud.objects.upload_options, "chunksize", 5 * 1024 * 1024)
    objects = cloud.objects(url)
    content = bytes(range(256)) * 42_000 + b"and a rest"  # three parts
    path = tmp_path / "object"
    path.write_bytes(content)
    objects.upload("big", str(path))
    assert objects.size("big") == len(content)
    for most in (len(content), 1_000_007):
        with path.open("w+b") as file:
            objects.download("big", file, most)
        assert path.read_bytes() == content[: most + 1]


def test_bucket_that_is_not_there_is_a_fault_and_not_an_empty_store(cloud: Cloud, url: str) -> None:
    missing = open_store(f"{cloud.scheme}://missing-{uuid4().hex}/prefix")
    with pytest.raises(StoreUnavailable, match=r"bucket|container"):
        missing.refs(TOPIC, 0)
    with pytest.raises(StoreUnavailable, match=r"bucket|container"):
        missing.write(make_snapshot(100))


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)
def test_adapter_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == cloud.adapter]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, cloud.adapter, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, cloud.scheme, raising=False)
    with pytest.raises(UsageError, match=rf"cellstream\[{cloud.extra}\]"):
        open_store(f"{cloud.scheme}://bucket/prefix")


def test_store_that_ignores_conditions_is_refused_with_words_that_say_so(proxy: Proxy, url: str) -> None:
    open_store(url).prove()
    proxy.harm = lambda kind, path: "ignore"
    with pytest.raises(UsageError, match="ignores the conditions"):
        open_store(url).prove()


@pytest.mark.skipif(not REAL, reason="the small servers check no credentials; `make stores` asks MinIO and Azurite")
@pytest.mark.parametrize("server", ["s3", "azure"], indirect=True)
def test_login_that_the_store_refuses_is_said(
    cloud: Cloud, proxy: Proxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(url).write(make_snapshot(100))
    wrong = SECRET.swapcase()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", Azure().connection(proxy.endpoint, wrong))
    with pytest.raises(StoreUnavailable, match=r"signature|authorization header"):
        open_store(url).refs(TOPIC, 0)


# One of each kind on the way to CI, where time is short, and fewer with our own servers; all with the real ones.
ONCE = [
    ("slow down", "read", NAME),
    ("tear answer", "read", NAME),
    ("refuse", "write", ".h5"),
    ("tear", "write", ".h5"),
    ("lose", "write", NAME),
]
ONCE_IN_SHORT = [("tear", "write", ".h5"), ("lose", "write", NAME)]
FOR_LONG = [("denied", "write"), ("full", "write"), ("hang", "any"), ("slow down", "any")]
FOR_LONG_IN_SHORT = [("denied", "write")]
if REAL:
    PLACES = [("look", ".h5"), *((kind, path) for _, kind, path in ONCE)]
    ONCE += [(harm, *place) for harm in ("slow down", "refuse", "lose", "tear") for place in PLACES]
    ONCE = [entry for entry in dict.fromkeys(ONCE) if entry[0] != "tear" or entry[1] == "write"]
    FOR_LONG = [(harm, kind) for harm in ("denied", "full", "hang", "refuse", "slow down") for kind in ("write", "any")]


def on_each_server(cases: list[Any], in_short: list[Any]) -> list[Any]:
    return [(cloud, *case) for cloud in KINDS for case in (cases if REAL or cloud == "s3" else in_short)]


@pytest.mark.parametrize(("server", "harm", "kind", "path"), on_each_server(ONCE, ONCE_IN_SHORT), indirect=["server"])
def test_one_request_that_fails_is_made_again(proxy: Proxy, url: str, harm: str, kind: str, path: str) -> None:
    store = open_store(url)
    store.write(make_snapshot(100))
    happened = proxy.once(harm, kind, path)
    try:
        store.write(make_snapshot(200))
    except TransientFault:
        assert harm == "tear answer", "what was cut in the middle of an answer is left to the next checkpoint"
        store.write(make_snapshot(200))
    assert happened()
    assert offsets(open_store(url)) == [200, 100]


@pytest.mark.parametrize(("server", "harm", "kind"), on_each_server(FOR_LONG, FOR_LONG_IN_SHORT), indirect=["server"])
def test_store_that_refuses_for_long_delays_a_checkpoint_and_leaves_the_ones_before(
    cloud: Cloud, proxy: Proxy, url: str, harm: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(url).write(make_snapshot(100))
    with monkeypatch.context() as patch:
        if harm == "hang":
            patch.setitem(fsspec.config.conf, cloud.scheme, cloud.timeouts(connect_s=1, read_s=0.5))
        store = open_store(url)
    proxy.harm = lambda found, path: harm if kind in (found, "any") else None
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

    def stands_still(kind: str, path: str) -> str | None:
        if kind == "write" and NAME in path and not reached.is_set():
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
