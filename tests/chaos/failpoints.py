"""Named places at which a worker kills itself with SIGKILL, put around the worker's methods from outside.

    python -m tests.chaos.failpoints before-rename:3 run --group-id ...

is `cellstream run` that dies when it comes before the rename of a checkpoint for the third time. Nothing of this is
compiled into the product: a method is replaced by one that calls it and counts. A failpoint whose method is gone or
never comes shows as a worker that lives on, which is a failure of the scenario and not silence.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from worker.checkpoint import store as checkpoint_store
from worker.checkpoint.hdf5_io import UnfailingFile
from worker.checkpoint.local import LocalDirectory
from worker.checkpoint.store import CheckpointStore
from worker.engine import Engine
from worker.kafka.transaction import TransactionalSink
from worker.loop import Worker
from worker.recovery.keeper import StateKeeper

Here = Callable[[], None]
DURING_S = 0.012  # a commit on a local broker takes some milliseconds


@dataclass(frozen=True)
class Failpoint:
    """A place to die at.

    Attributes:
        words: where it is, for people.
        arm: puts the wrapper on; gets what to call at the place.
        passes: the most that a scenario lets pass before it dies, where the place comes often.
    """

    words: str
    arm: Callable[[Here], None]
    passes: int = 1


def _around(owner: Any, name: str, before: bool = False, when: Callable[..., bool] | None = None) -> Any:
    """Arm a place before or after a method, for the calls whose arguments (or result, after it) qualify."""

    def arm(here: Here) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            if before and (when is None or when(*arguments)):
                here()
            result = original(*arguments, **named)
            if not before and (when is None or when(*arguments, result)):
                here()
            return result

        setattr(owner, name, wrapped)

    return arm


def _call(what: str, before: bool) -> Callable[[Here], None]:
    """Before or after one of the sink's transactional calls."""
    return _around(TransactionalSink, "_call", before, when=lambda *arguments: arguments[1] == what)


def _begun(here: Here) -> None:
    """After a transaction was begun; most calls of `_begin` find one open."""
    original = TransactionalSink._begin

    def begin(sink: TransactionalSink) -> None:
        open_before = sink._begun
        original(sink)
        if not open_before:
            here()

    TransactionalSink._begin = begin  # type: ignore[method-assign]


def _during_commit(here: Here) -> None:
    """A timer goes off while `commit_transaction` is with the broker, or shortly after."""
    original = TransactionalSink._call
    random = Random(os.getpid())

    def call(sink: TransactionalSink, what: str, request: Callable[[], Any]) -> None:
        if what == "commit_transaction":
            timer = threading.Timer(random.uniform(0, DURING_S), here)
            timer.daemon = True
            timer.start()
        original(sink, what, request)

    TransactionalSink._call = call  # type: ignore[method-assign]


def _revoking(method: str) -> Callable[[Here], None]:
    """After a method of the worker, when it was called by `on_revoke`."""

    def arm(here: Here) -> None:
        revoking = False
        on_revoke, original = Worker.on_revoke, getattr(Worker, method)

        def outer(worker: Worker, partitions: Any) -> None:
            nonlocal revoking
            revoking = True
            on_revoke(worker, partitions)
            revoking = False

        def inner(worker: Worker, *arguments: Any) -> Any:
            result = original(worker, *arguments)
            if revoking:
                here()
            return result

        Worker.on_revoke = outer  # type: ignore[method-assign]
        setattr(Worker, method, inner)

    return arm


def _publishing(method: str, before: bool) -> Callable[[Here], None]:
    """At a step of a checkpoint's publication; the same methods serve the creation of directories."""

    def arm(here: Here) -> None:
        publishing = threading.local()
        publish, directory = LocalDirectory.publish, LocalDirectory._directory

        def outer(folders: LocalDirectory, folder: str, build: Any) -> tuple[str, int]:
            publishing.now = True
            try:
                return publish(folders, folder, build)
            finally:
                publishing.now = False

        def create(folders: LocalDirectory, folder: str) -> Any:
            publishing.now = False
            result = directory(folders, folder)
            publishing.now = True
            return result

        LocalDirectory.publish = outer  # type: ignore[method-assign]
        LocalDirectory._directory = create  # type: ignore[method-assign]
        _around(LocalDirectory, method, before, when=lambda *_: publishing.now)(here)

    return arm


POINTS: dict[str, Failpoint] = {
    "after-begin": Failpoint("a transaction is open and empty", _begun, 20),
    "after-produce": Failpoint("events are with the client, nothing is committed", _around(
        TransactionalSink, "produce", when=lambda _, outcome, __: bool(outcome.values)), 20),
    "before-offsets": Failpoint("before the offsets join the transaction",
                                _call("send_offsets_to_transaction", True), 20),
    "after-offsets": Failpoint("the offsets have joined, the commit was not asked for",
                               _call("send_offsets_to_transaction", False), 20),
    "before-commit": Failpoint("before `commit_transaction` is called", _call("commit_transaction", True), 20),
    "during-commit": Failpoint("while the commit is with the broker", _during_commit, 20),
    "after-commit": Failpoint("the broker has confirmed, the worker has noted nothing",
                              _call("commit_transaction", False), 20),
    "revoke-before-commit": Failpoint("a partition is to go, its work is not committed",
                                      _around(Worker, "on_revoke", before=True)),
    "revoke-after-commit": Failpoint("a partition is to go, its work is committed and not saved", _revoking("commit")),
    "revoke-after-save": Failpoint("a partition is to go, and is saved", _revoking("_save")),
    "restore-loaded": Failpoint("a checkpoint is loaded, nothing is replayed", _around(StateKeeper, "load"), 4),
    "mid-replay": Failpoint("records below the committed offset are being stepped", _around(
        Engine, "process", when=lambda _, __, outcome: outcome.replayed > 0), 2),
    "checkpoint-building": Failpoint("half of the HDF5 file is written", _around(UnfailingFile, "write"), 40),
    "checkpoint-built": Failpoint("the HDF5 file is closed, its digest unknown",
                                  _around(checkpoint_store, "write_file"), 6),
    "before-fsync": Failpoint("the temporary file is whole, and not synced", _publishing("_sync_file", True), 6),
    "after-fsync": Failpoint("the temporary file is synced", _publishing("_sync_file", False), 6),
    "before-rename": Failpoint("before the rename", _publishing("_rename", True), 6),
    "after-rename": Failpoint("renamed, the directory is not synced", _publishing("_rename", False), 6),
    "before-directory-fsync": Failpoint("before the directory is synced", _publishing("_sync_directory", True), 6),
    "after-directory-fsync": Failpoint("the directory is synced", _publishing("_sync_directory", False), 6),
    "before-collect": Failpoint("older checkpoints are about to be looked through",
                                _around(CheckpointStore, "collect", before=True), 6),
    "during-collect": Failpoint("one of the older checkpoints is removed", _around(CheckpointStore, "remove"), 3),
}  # fmt: skip


def arm(spec: str) -> None:
    """Put a failpoint in, for the rest of this process' life.

    Args:
        spec: its name, with `:PASS` when it shall not be the first time; `:PASS:SECONDS` hangs instead of dying.
    """
    name, number, seconds = (*spec.split(":"), "", "")[:3]
    left = int(number or 1)
    lock = threading.Lock()

    def here() -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        if seconds:
            print(f"hanging at {name} for {seconds} s", file=sys.stderr, flush=True)
            time.sleep(float(seconds))
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    POINTS[name].arm(here)


def launch(spec: str) -> tuple[str, ...]:
    """What starts a worker with a failpoint; see `Deployment.start_worker`."""
    return (sys.executable, "-m", "tests.chaos.failpoints", spec)


def main() -> None:
    """`cellstream`, with a failpoint."""
    if len(sys.argv) < 2 or sys.argv[1].partition(":")[0] not in POINTS:
        width = max(map(len, POINTS))
        print("usage: python -m tests.chaos.failpoints POINT[:PASS[:SECONDS]] run ...\n", file=sys.stderr)
        print("\n".join(f"  {name:<{width}}  {point.words}" for name, point in POINTS.items()), file=sys.stderr)
        sys.exit(2)
    arm(sys.argv[1])
    sys.argv = ["cellstream", *sys.argv[2:]]
    from worker.cli import main as command

    command()


if __name__ == "__main__":
    main()
