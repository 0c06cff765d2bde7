"""A schedule: the settings of a run and its steps, made from a seed, readable and repeatable.

Steps do not depend on what happened before them, so that any of them may be left out when a failing schedule is
shrunk; one that cannot be taken, such as the turn of a worker that has ended, is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

APIS = ("init", "send_offsets", "end", "committed", "list_offsets", "metadata", "publish", "queue")
DAMAGES = ("truncated", "flipped", "emptied", "deleted", "lost", "stale")
SCHEMAS = 5
SHARE_WITH_SCHEMAS = 0.2
KEYS = (b"a", b"b", b"c", b"d", b'"e\\')


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        what: a method of `World`, without `do_`.
        at: which worker, or which partition.
        number: how many, or at which effect from now.
        seconds: of simulated time.
        word: which kind.
        values: what the records are made of.
    """

    what: str
    at: int = 0
    number: int = 0
    seconds: float = 0.0
    word: str = ""
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = [self.what, str(self.at), self.word]
        words += [f"number={self.number}"] if self.number else []
        words += [f"seconds={self.seconds:g}"] if self.seconds else []
        words += [f"values={list(self.values)}"] if self.values else []
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Plan:
    """A schedule.

    Attributes:
        twins: the first two workers have the same instance ID, and with it the same transactional.id.
        eager: partitions are handed over eagerly, else cooperatively.
        marker_delay_s: from the decision to end a transaction to the markers in the logs.
        delivers_at_once: records leave the producer when they are produced, else with the commit.
        slow_store: the checkpoint writer makes those who wait for it wait.
        schemas: values name schemas, some of which are registered while the schedule runs.
    """

    seed: int = 0
    workers: int = 1
    partitions: int = 1
    twins: bool = False
    eager: bool = False
    commit_interval_s: float = 0.0
    poll_records: int = 3
    checkpoint_records: int | None = 2
    checkpoint_interval_s: float = 1e9
    marker_delay_s: float = 0.0
    delivers_at_once: bool = True
    slow_store: bool = False
    schemas: bool = False
    steps: tuple[Step, ...] = ()

    def instance(self, slot: int) -> str:
        """The instance ID of a worker."""
        return f"worker-{0 if self.twins and slot < 2 else slot}"

    def described(self) -> str:
        """All of it, for people."""
        named = {name: value for name, value in self.__dict__.items() if name != "steps"}
        return "\n".join([json.dumps(named), *(f"{number:4} {step}" for number, step in enumerate(self.steps))])


def record(number: int) -> tuple[bytes | None, bytes | None, Any]:
    """Key, value and headers of an input record: a number's meaning never changes."""
    key, kind, x, y = number % 5, number // 5 % 20, number // 100 % 9 - 4, number // 900 % 9 - 4
    features = f"[{x / 2},{y / 4}]"
    headers = None
    value: bytes | None = b'{"features":%s}' % features.encode()
    if kind == 0:
        value = b'{"features":%s,"end_of_sequence":true}' % features.encode()
    elif kind == 1:
        value = b'{"features":%s,"start_of_sequence":true}' % features.encode()
    elif kind == 2:
        value = None
    elif kind == 3:
        value = (b"x", b"{}", b'{"features":[1]}', b'{"features":[1e39,1]}')[x % 4]
    elif kind == 4:
        value = b'{"samples":[%s,[1,0.5],[0,-1]]}' % features.encode()
    elif kind == 5:
        value, headers = b"", [("end-of-sequence", b"")]
    return (None if kind == 3 and y == 0 else KEYS[key]), value, headers


def schema_of(number: int) -> int:
    """The schema ID that an input record names, where the schedule has schemas; from 1 to `SCHEMAS`."""
    return 1 + number // 7 % SCHEMAS


def generate(seed: int) -> Plan:
    """The schedule of a seed."""
    schedule = _generate(seed)
    own = Random(f"{seed} schemas")  # so that the other seeds keep their schedules
    if own.random() > SHARE_WITH_SCHEMAS:
        return schedule
    steps = list(schedule.steps)
    for schema_id in range(2, SCHEMAS + 1):
        steps.insert(own.randint(0, len(steps)), Step("register", number=schema_id))
    return replace(schedule, schemas=True, steps=tuple(steps))


def _generate(seed: int) -> Plan:
    random = Random(seed)
    workers = random.choice([1, 2, 2, 3])
    partitions = random.choice([1, 2, 3])
    steps = [Step("input", at, values=_values(random, 1, 6)) for at in range(partitions)]
    steps += [Step("start", slot) for slot in range(workers) if slot == 0 or random.random() < 0.7]
    steps += [Step("turn", slot, number=3) for slot in range(workers)]
    for _ in range(random.randint(8, 28)):
        steps += random.choices(_MAKERS, _WEIGHTS)[0](random, workers, partitions)
    return Plan(
        seed=seed,
        workers=workers,
        partitions=partitions,
        twins=workers > 1 and random.random() < 0.12,
        eager=random.random() < 0.3,
        commit_interval_s=random.choice([0.0, 0.0, 0.03, 0.4]),
        poll_records=random.choice([1, 2, 5, 100]),
        checkpoint_records=random.choice([1, 2, 4, None]),
        checkpoint_interval_s=random.choice([0.05, 1.0, 1e9]),
        marker_delay_s=random.choice([0.0, 0.0, 0.05]),
        delivers_at_once=random.random() < 0.6,
        slow_store=random.random() < 0.2,
        steps=tuple(steps),
    )


def _values(random: Random, least: int, most: int) -> tuple[int, ...]:
    return tuple(random.randrange(8_100) for _ in range(random.randint(least, most)))


Maker = Callable[[Random, int, int], list[Step]]


def _turns(random: Random, workers: int, partitions: int) -> list[Step]:
    return [Step("turn", random.randrange(workers), number=random.randint(1, 4)) for _ in range(random.randint(1, 3))]


def _input(random: Random, workers: int, partitions: int) -> list[Step]:
    word = random.choice(["", "", "", "committed", "aborted", "open"])
    return [Step("input", random.randrange(partitions), word=word, values=_values(random, 1, 5))]


def _close_input(random: Random, workers: int, partitions: int) -> list[Step]:
    return [Step("close_input", random.randrange(partitions), word=random.choice(["committed", "aborted"]))]


def _write(random: Random, workers: int, partitions: int) -> list[Step]:
    return [Step("write", random.randrange(workers))]


def _crash(random: Random, workers: int, partitions: int) -> list[Step]:
    slot = random.randrange(workers)
    between = [step for _ in range(random.randint(0, 2)) for step in _busy(random, workers, partitions, slot)]
    return [
        Step("crash", slot, number=random.randint(1, 14)),
        *between,
        *([Step("start", slot)] if random.random() < 0.8 else []),
    ]


def _busy(random: Random, workers: int, partitions: int, slot: int) -> list[Step]:
    return [
        Step("input", random.randrange(partitions), values=_values(random, 1, 3)),
        Step("turn", slot, number=random.randint(1, 4)),
        *([Step("write", slot)] if random.random() < 0.5 else []),
    ]


def _pause(random: Random, workers: int, partitions: int) -> list[Step]:
    """Stop a worker at an effect, let the others go on, and perhaps time pass beyond every limit."""
    slot, steps = random.randrange(workers), []
    frozen = random.random() < 0.7
    others = [other for other in range(workers) if other != slot] or [slot]
    for _ in range(random.randint(1, 4)):
        if random.random() < 0.6:
            steps += [Step("pass", seconds=random.choice([0.05, 1.0, 6.0, 11.0, 25.0]))]
        steps += _busy(random, workers, partitions, random.choice(others))
    return [
        Step("pause", slot, number=random.randint(1, 14), word="frozen" if frozen else "slow"),
        *_busy(random, workers, partitions, slot),
        *steps,
        Step("resume", slot),
        Step("turn", slot, number=random.randint(1, 3)),
    ]


def _fault(random: Random, workers: int, partitions: int) -> list[Step]:
    """A request with a fault; the worker soon makes it, and perhaps more of them before it dies."""
    api, slot = random.choice((*APIS, "end", "end", "send_offsets")), random.randrange(workers)
    kinds = ("lost", "unanswered", "late", "again", "retriable", "abortable", "fatal")
    delay_s = random.choice([0.1, 5.01, 5.05, 6.0, 12.0])
    return [
        Step("fault", slot, word=f"{api} {random.choice(kinds)}", seconds=delay_s),
        *_busy(random, workers, partitions, slot),
        *(_busy(random, workers, partitions, slot) if random.random() < 0.6 else []),
    ]


def _process(random: Random, workers: int, partitions: int) -> list[Step]:
    slot = random.randrange(workers)
    return [
        Step(random.choice(["start", "start", "terminate", "kill"]), slot),
        Step("turn", slot, number=2),
        *([Step("start", slot)] if random.random() < 0.5 else []),
    ]


def _visit(random: Random, workers: int, partitions: int) -> list[Step]:
    """A worker comes, answers something, and goes: partitions move there and back."""
    slot, steps = random.randrange(workers), []
    for _ in range(random.randint(1, 3)):
        steps += [Step("turn", other, number=random.randint(2, 5)) for other in range(workers)]
        steps += [Step("input", random.randrange(partitions), values=_values(random, 1, 3))]
    return [Step("start", slot), *steps, Step(random.choice(["terminate", "terminate", "kill"]), slot), *steps]


def _network(random: Random, workers: int, partitions: int) -> list[Step]:
    seconds = random.choice([0.3, 3.0, 8.0, 15.0, 130.0])
    where = [Step("down", seconds=seconds), Step("cut", random.randrange(workers), seconds=seconds)]
    return [random.choice(where), *_turns(random, workers, partitions)]


def _pass(random: Random, workers: int, partitions: int) -> list[Step]:
    return [Step("pass", seconds=random.choice([0.05, 0.5, 3.0, 12.0]))]


def _store(random: Random, workers: int, partitions: int) -> list[Step]:
    if random.random() < 0.3:
        return [Step("store_away", seconds=random.choice([0.1, 5.0])), *_turns(random, workers, partitions)]
    return [Step("damage", random.randrange(partitions), word=random.choice(DAMAGES + DAMAGES[:4]))]


def _trim(random: Random, workers: int, partitions: int) -> list[Step]:
    """Mostly less than the checkpoints need; the rest asks for a refusal."""
    return [Step("trim", random.randrange(partitions), number=random.choice([0, 3, 8, 12, 16, 20]))]


_CHOICES: dict[Maker, int] = {
    _turns: 10, _input: 8, _close_input: 1, _write: 4, _crash: 4, _pause: 4, _fault: 5, _process: 3, _network: 1,
    _pass: 1, _store: 2, _trim: 1, _visit: 2,
}  # fmt: skip
_MAKERS, _WEIGHTS = list(_CHOICES), list(_CHOICES.values())
