"""What became of a world: whether it rests, whether a worker ended rightly, and whether all laws hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulator import laws
from tests.simulator.settings import DEAD_LETTERS, GROUP, INPUT, OUTPUT
from worker.checkpoint import Snapshot

if TYPE_CHECKING:
    from tests.simulator.worker_process import WorkerProcess
    from tests.simulator.world import World

ORIGIN = 0  # nothing is deleted before a partition's first commit, so that is where its state begins


def at_rest(world: World) -> bool:
    """Everything is answered and committed, and no transaction is open."""
    states = {found.state for found in world.cluster.coordinator.registered.values()}
    return not {"open", "preparing"} & states and all(
        not log.records() or committed(world, partition) > log.records()[-1][0]
        for partition, log in enumerate(world.cluster.topics[INPUT])
    )


def committed(world: World, partition: int) -> int:
    """The group's committed offset; 0 before the first."""
    return world.group.offsets.get((INPUT, partition), (0, ""))[0]


def folder(partition: int) -> str:
    """Of a partition's checkpoints."""
    return f"{GROUP}/{INPUT}/{partition}"


def judge_end(world: World, slot: int, process: WorkerProcess | None) -> None:
    """A worker that ends again and again may only have refused what cannot be had exactly."""
    code, said = (None, "") if process is None else (process.exit_code, process.said)
    if code == 3 and any(_is_lost(world, partition) for partition in range(world.plan.partitions)):
        world.report.refused = said
    else:
        world.report.violations.append(f"worker {slot} does not run undisturbed: {code} {said}")


def check_publication(world: World, snapshot: Snapshot) -> None:
    """A checkpoint is taken of committed state only (rule 14)."""
    if snapshot.next_offset > world.group.decided((INPUT, snapshot.partition)):
        world.report.violations.append(
            f"checkpoint of partition {snapshot.partition} at {snapshot.next_offset} is ahead of the commits"
        )


def check_removal(world: World, snapshot: Snapshot, left: list[str]) -> None:
    """Two checkpoints at or below the committed offset are kept (rule 15)."""
    usable = [name for name in left if int(name[:20]) <= world.group.decided((INPUT, snapshot.partition))]
    if len(usable) < 2:
        where = f"of partition {snapshot.partition} at {snapshot.next_offset}"
        world.report.violations.append(f"removal of the checkpoint {where} leaves {len(usable)} that can be used")


def check(world: World) -> None:
    """Hold all laws."""
    wrong = world.report.violations
    wrong += world.group.regressions
    if not world.report.refused:
        wrong += [
            f"transaction of {name} is {found.state}"
            for name, found in world.cluster.coordinator.registered.items()
            if found.state in ("open", "preparing")
        ]
    for partition, log in enumerate(world.cluster.topics[INPUT]):
        saved = [snapshot for snapshot in world.disk.snapshots.values() if snapshot.partition == partition]
        unread = laws.unread(partition, world.cluster.topics[DEAD_LETTERS][0]) if world.plan.schemas else None
        expected = laws.expect(partition, log, [snapshot.next_offset for snapshot in saved], ORIGIN, unread)
        until = committed(world, partition)
        wrong += laws.check_outputs(partition, expected, until, world.cluster.topics[OUTPUT])
        wrong += laws.check_dead_letters(partition, expected, until, world.cluster.topics[DEAD_LETTERS])
        for snapshot in saved:
            wrong += laws.check_checkpoint(expected, snapshot)


def _is_lost(world: World, partition: int) -> bool:
    """No sound checkpoint leads to the committed offset, and the log does not reach back to the origin."""
    low = world.cluster.topics[INPUT][partition].start
    here, former = world.disk.folders.get(folder(partition), {}), world.disk.former.get(folder(partition), {})
    sound = [world.disk.snapshots[folder(partition), name] for name in here if here[name] == former[name]]
    leads = any(low <= snapshot.next_offset <= committed(world, partition) for snapshot in sound)
    return low > ORIGIN and not leads
