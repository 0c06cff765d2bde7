"""What may happen to the checkpoint store: damage, age, a full disk, no right to read, a file from the future."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.brokers.process import Process
from tests.chaos.scenarios.context import Context
from tests.chaos.scenarios.crashes import QUICK
from tests.chaos.scenarios.registry import Skipped, add, scenario
from tests.chaos.scenarios.stage import PARTITIONS, Stage, next_offsets

DISK_BYTES = 512 * 1024


def newest(stage: Stage) -> list[Path]:
    """The newest checkpoint of each partition."""
    found = [sorted(stage.deployment.checkpoints.rglob(f"{number}/*.h5")) for number in range(PARTITIONS)]
    return [files[-1] for files in found if files]


def saved(stage: Stage) -> list[int]:
    """The offsets that their names say."""
    return [int(path.name.partition("-")[0]) for path in newest(stage)]


def first_restores(worker: Process) -> list[str]:
    """What a worker has said of each partition when it restored it for the first time."""
    lines = [line for line in worker.log.read_text(errors="replace").splitlines() if "restored " in line]
    found = [next((line for line in lines if f"partition={number} " in line), "") for number in range(PARTITIONS)]
    assert all(found), f"not every partition was restored: {lines}"
    return found


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def from_the_future(path: Path) -> None:
    """A newer worker has written it, and its digest is right."""
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = file.attrs["format_version"] + 98
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(path.with_name(re.sub(r"-[0-9a-f]{64}", f"-{digest}", path.name)))


def renamed(path: Path) -> None:
    """It says that it is of another offset than it is."""
    offset, _, rest = path.name.partition("-")
    path.rename(path.with_name(f"{int(offset) - 1:020d}-{rest}"))


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated": ("is cut to half its size", truncate),
    "flipped": ("has one bit flipped", flip),
    "emptied": ("is empty", empty),
    "deleted": ("is deleted", Path.unlink),
    "future": ("is of a newer format version", from_the_future),
    "renamed": ("claims another offset", renamed),
}


def _damaged(name: str, words: str, damage: Callable[[Path], None], everything: bool) -> None:
    def play(context: Context) -> None:
        with context.stage(*QUICK) as stage:
            stage.start()
            for _ in range(3):  # the older ones are really older
                stage.publish(500)
                stage.settle()
                stage.until(lambda: saved(stage) == next_offsets(stage.inputs), "checkpoints of all partitions")
            stage.kill()
            for path in stage.checkpoints() if everything else newest(stage):
                damage(path)
                context.faults[f"checkpoint {name}"] += 1
            stage.publish(500)
            worker = stage.start()
            # Of two names for one content the checker would have to say which is wrong; the rest it passes over itself.
            stage.finish(checkpoints=damage is not renamed)
            expected = "the log reaches back" if everything else "source=checkpoint"
            assert all(expected in line for line in first_restores(worker)), worker.log.read_text(errors="replace")

    which = "Every checkpoint" if everything else "The newest checkpoint of every partition"
    how = "the state is rebuilt from the log" if everything else "an older one is taken"
    add(
        f"store:{name}{'-all' if everything else ''}",
        play,
        f"{which} {words} while no worker runs.\n\nExpected: {how}, and the outputs are, byte for byte, what an "
        "undisturbed worker answers.",
    )


for _name, (_words, _damage) in DAMAGES.items():
    _damaged(_name, _words, _damage, everything=False)
    _damaged(_name, _words, _damage, everything=True)


@scenario("store:stale")
def stale(context: Context) -> None:
    """The store is replaced by a copy of what it was many commits ago, as after a restored backup.

    Expected: more is replayed; the outputs are, byte for byte, what an undisturbed worker answers.
    """
    with context.stage(*QUICK) as stage:
        stage.publish(500)
        stage.start()
        stage.settle()
        stage.until(lambda: len(newest(stage)) == PARTITIONS, "checkpoints of all partitions")
        stage.kill()
        store, copy = stage.deployment.checkpoints, stage.deployment.directory / "backup"
        shutil.copytree(store, copy)
        stage.start()
        stage.publish(2000)
        stage.settle()
        stage.kill()
        shutil.rmtree(store)
        copy.rename(store)
        context.faults["store stale"] += 1
        stage.publish(500)
        stage.finish()


@scenario("store:full")
def full(context: Context) -> None:
    """The store is a disk of half a megabyte, and something else fills it while the worker runs.

    Expected: checkpoints fail, and the worker says so; records go on. When there is room again, so do checkpoints. A
    worker that is killed meanwhile replays from the last that was whole.
    """
    with context.stage(*QUICK) as stage:
        disk = stage.deployment.checkpoints
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(disk)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if mounted.returncode != 0:
            raise Skipped(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        try:
            stage.publish(500)
            worker = stage.start()
            stage.settle()
            stage.until(lambda: len(newest(stage)) == PARTITIONS, "checkpoints of all partitions")
            filler = disk / "filler"
            _fill(filler)
            context.faults["disk full"] += 1
            with stage.flowing():

                def refused() -> bool:
                    """What the worker has collected meanwhile would be room for the next checkpoint."""
                    _fill(filler)
                    return "checkpoint_failed" in worker.tail(100_000)

                stage.until(refused, "a failed checkpoint in the log")
            stage.settle()
            stage.kill()
            worker = stage.start()
            stage.publish(500)
            stage.settle()
            filler.unlink()
            before = stage.checkpoints()
            stage.publish(500)
            stage.until(lambda: stage.checkpoints() != before, "checkpoints again")
            stage.finish()
        finally:
            stage.close_workers()
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass  # full: that is what is wanted


@scenario("store:unreadable")
def unreadable(context: Context) -> None:
    """The checkpoints may not be read any more (mode 000) when the worker starts again.

    Expected: it does not take that for "no checkpoint": it tries again and says why, and goes on when it may read.
    """
    launched: tuple[str, ...] = (str(Path(sys.executable).with_name("cellstream")),)
    if os.geteuid() == 0:  # root reads everything, unless it gives up the right to
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise Skipped("root reads any file, and setpriv, which could take that right away, is not installed")
        rights = "-dac_override,-dac_read_search"
        launched = (setpriv, f"--bounding-set={rights}", f"--inh-caps={rights}", *launched)
    with context.stage(*QUICK) as stage:
        stage.publish(500)
        stage.start()
        stage.settle()
        stage.until(lambda: len(newest(stage)) == PARTITIONS, "checkpoints of all partitions")
        stage.kill()
        files = stage.checkpoints()
        for path in files:
            path.chmod(0)
        context.faults["store unreadable"] += 1
        stage.publish(500)
        worker = stage.start("worker-0", launched=launched)
        stage.until(lambda: "restore_postponed" in worker.tail(100_000), "the reason in the log")
        for path in files:
            path.chmod(0o600)
        stage.progress(1)
        stage.finish()
