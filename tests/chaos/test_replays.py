"""Which replays were nobody's fault: told by the logs of all workers, in the order of their times."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.scenarios.replays import replays

RESTORED = "[info     ] restored    [worker.loop] committed={1} log_end=90 next_offset={0} partition=1 seconds=0"
ABORTED = "[warning  ] aborted     [worker.loop] partitions=[0, 1] reason='the generation has moved on'"
LOST = "[warning  ] lost        [worker.loop] partitions=[1]"
REVOKED = "[info     ] revoked     [worker.loop] partitions=[1]"


def found(directory: Path, first: list[str], second: list[str]) -> tuple[set[tuple[int, int, int]], ...]:
    """Of two workers; lines are `SECOND TEXT`."""
    logs = []
    for name, lines in (("a", first), ("b", second)):
        logs.append(directory / name)
        times = (line.partition(" ") for line in lines)
        logs[-1].write_text("".join(f"13:36:{float(at):09.6f} {text}\n" for at, _, text in times))
    return replays(logs)


def test_a_partition_that_was_saved_is_replayed_by_nobody(tmp_path: Path) -> None:
    assert found(tmp_path, [f"1 {REVOKED}"], [f"2 {RESTORED.format(30, 30)}"]) == (set(), set())


def test_a_replay_after_a_hand_over_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, [f"1 {REVOKED}"], [f"2 {RESTORED.format(20, 30)}"]) == ({(1, 20, 30)}, set())


def test_a_replay_of_what_was_given_up_is_told_apart_whoever_does_it(tmp_path: Path) -> None:
    restored = RESTORED.format(20, 30)
    assert found(tmp_path, [f"1 {ABORTED}", f"2 {restored}"], []) == (set(), {(1, 20, 30)})
    assert found(tmp_path, [f"1 {ABORTED}", f"2 {REVOKED}"], [f"3 {restored}"]) == (set(), {(1, 20, 30)})
    assert found(tmp_path, [f"1 {LOST}"], [f"3 {restored}"]) == (set(), {(1, 20, 30)})
    unfinished = found(tmp_path, [f"1 {ABORTED}", f"2 {restored}", f"3 {REVOKED}"], [f"4 {restored}"])
    assert unfinished == (set(), {(1, 20, 30)})


def test_an_abort_excuses_one_restore_and_not_the_next(tmp_path: Path) -> None:
    first = [f"1 {ABORTED}", f"2 {RESTORED.format(30, 30)}", f"5 {REVOKED}"]
    assert found(tmp_path, first, [f"6 {RESTORED.format(40, 50)}"]) == ({(1, 40, 50)}, set())
