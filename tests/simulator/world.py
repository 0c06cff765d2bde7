"""One run of a schedule: the workers, stepped turn by turn in one thread, and what became of them.

A worker can be stopped at any of its effects. The steps that follow are taken inside that effect, until the schedule
lets it go on; so workers that were stopped one after the other go on in the reverse order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.simulator import verdict
from tests.simulator.cluster import Cluster
from tests.simulator.host import Fault, Host
from tests.simulator.log import Entry, Log, Transaction
from tests.simulator.plan import Plan, Step, record, schema_of
from tests.simulator.settings import DEAD_LETTERS, GROUP, INPUT, OUTPUT, OUTPUT_PARTITIONS
from tests.simulator.store import Disk
from tests.simulator.worker_process import Crash, WorkerProcess
from worker.registry.client import header

TURN_S = 0.005
MOST_EFFECTS = 20_000
ROUNDS_TO_REST = 300
RESTARTS_TO_REST = 6


@dataclass
class Report:
    """What came of a schedule.

    Attributes:
        violations: laws that were broken.
        counts: steps taken, by kind, and how workers ended.
        refused: the message of a worker that rightly refused to go on; then the laws hold up to there.
    """

    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refused: str = ""


@dataclass
class Arm:
    """Something that happens at an effect of a worker."""

    left: int
    kind: str


class World:
    """The cluster, the store and the workers of one schedule.

    Args:
        plan: the schedule.
        trace: takes a line for each event.
    """

    def __init__(self, plan: Plan, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.cluster = Cluster(plan.marker_delay_s, trace)
        topics = {INPUT: plan.partitions, OUTPUT: OUTPUT_PARTITIONS, DEAD_LETTERS: 1}
        self.cluster.topics = {name: [Log() for _ in range(count)] for name, count in topics.items()}
        self.group = self.cluster.group(GROUP)
        self.registered = {1}
        self.disk = Disk(
            on_publish=lambda snapshot: verdict.check_publication(self, snapshot),
            on_remove=lambda snapshot, left: verdict.check_removal(self, snapshot, left),
        )
        self.report = Report()
        self._steps: Iterator[Step] = iter(plan.steps)
        self._processes: list[WorkerProcess | None] = [None] * plan.workers
        self._arms: list[list[Arm]] = [[] for _ in range(plan.workers)]
        self._stopped: set[tuple[WorkerProcess, str]] = set()
        self._upstream: dict[int, Transaction] = {}
        self._effects = 0
        self._incarnations = 0

    def run(self) -> Report:
        """Take all steps, bring everything to rest, and hold the laws."""
        for step in self._steps:
            self._take(step)
        self._settle()
        verdict.check(self)
        return self.report

    def _take(self, step: Step) -> None:
        self.cluster.note("schedule", str(step))
        self.report.counts[step.what] += 1
        getattr(self, f"do_{step.what}")(step)

    def do_input(self, step: Step) -> None:
        """Records, plain or in a transaction that is committed, aborted or left open."""
        log = self.cluster.topics[INPUT][step.at]
        transaction = None
        if step.word:
            transaction = self._upstream.pop(step.at, None) or Transaction("upstream", self.cluster.now)
        for number in step.values:
            key, value, headers = record(number)
            if self.plan.schemas and value:
                value = header(schema_of(number)) + value
            time = -1 if number % 17 == 0 else 3 * log.end + number % 7
            log.append(Entry(False, key, value, headers, time, transaction))
        if transaction is not None:
            self._upstream[step.at] = transaction
            if step.word != "open":
                self.do_close_input(step)

    def do_register(self, step: Step) -> None:
        """A schema is known from now on."""
        self.registered.add(step.number)

    def do_close_input(self, step: Step) -> None:
        """End the transaction that an input was left in."""
        transaction = self._upstream.pop(step.at, None)
        if transaction is not None:
            transaction.status = step.word
            self.cluster.topics[INPUT][step.at].settle(transaction)

    def do_start(self, step: Step) -> None:
        """Start a worker in the place of one that has ended."""
        former = self._processes[step.at]
        if former is None or former.exit_code is not None:
            self._incarnations += 1
            host = Host(self.cluster, f"w{step.at}.{self._incarnations}")
            host.delivers_at_once = self.plan.delivers_at_once
            process = WorkerProcess(host, self.plan, step.at, self.disk, self.registered)
            host.point = lambda name: self._effect(step.at, process, name)
            self._processes[step.at], self._arms[step.at] = process, []
            process.start()
            self._note_end(process)

    def do_turn(self, step: Step) -> None:
        """Turns of a worker's loop."""
        for _ in range(step.number):
            process = self._runnable(step.at, "loop")
            if process is None:
                return
            process.turn()
            self._note_end(process)
            self.cluster.advance(TURN_S)

    def do_write(self, step: Step) -> None:
        """A step of a worker's checkpoint writer."""
        process = self._runnable(step.at, "write")
        if process is not None:
            process.write()
            self._note_end(process)

    def do_terminate(self, step: Step) -> None:
        """SIGTERM."""
        process = self._runnable(step.at, "loop")
        if process is not None and not any(one is process for one, _ in self._stopped):
            process.terminate()
            self._note_end(process)

    def do_kill(self, step: Step) -> None:
        """SIGKILL, wherever the worker is."""
        process = self._processes[step.at]
        if process is not None and process.exit_code is None:
            process.kill()
            self._note_end(process)

    def do_crash(self, step: Step) -> None:
        """The worker dies at an effect that is to come."""
        self._arms[step.at].append(Arm(step.number, "crash"))

    def do_pause(self, step: Step) -> None:
        """The worker is stopped at an effect that is to come: frozen as a whole, or only slow there."""
        self._arms[step.at].append(Arm(step.number, step.word))

    def do_resume(self, step: Step) -> None:
        """Of a worker that is not stopped, or not the last one to be stopped: nothing."""

    def do_fault(self, step: Step) -> None:
        """A request of a kind that is to come meets a fault."""
        process = self._processes[step.at]
        api, kind = step.word.split()
        if process is not None:
            process.host.faults[api] = Fault(kind, step.seconds)

    def do_cut(self, step: Step) -> None:
        """A worker does not reach the broker."""
        process = self._processes[step.at]
        if process is not None:
            process.host.cut_until = self.cluster.now + step.seconds

    def do_down(self, step: Step) -> None:
        """The broker is away."""
        self.cluster.down_until = self.cluster.now + step.seconds

    def do_pass(self, step: Step) -> None:
        """Time passes."""
        self.cluster.advance(step.seconds)

    def do_store_away(self, step: Step) -> None:
        """The checkpoint store fails."""
        self.disk.fails_until = self.cluster.now + step.seconds

    def do_damage(self, step: Step) -> None:
        """A partition's checkpoints are damaged."""
        self.disk.damage(verdict.folder(step.at), step.word)

    def do_trim(self, step: Step) -> None:
        """Records that were answered are deleted, all but so many."""
        committed = self.group.offsets.get((INPUT, step.at))
        if committed is not None:
            log = self.cluster.topics[INPUT][step.at]
            log.start = max(log.start, committed[0] - step.number)

    def _runnable(self, slot: int, activity: str) -> WorkerProcess | None:
        process = self._processes[slot]
        if process is None or process.exit_code is not None or process.host.frozen:
            return None
        return None if (process, activity) in self._stopped else process

    def _effect(self, slot: int, process: WorkerProcess, name: str) -> None:
        """A worker is about to have an effect, or has had it."""
        self._effects += 1
        assert self._effects < MOST_EFFECTS, "the schedule does not come to an end"
        if name.startswith("after"):
            process.host.note(name)
        arms = self._arms[slot] if self._processes[slot] is process else []
        for arm in arms:
            arm.left -= 1
        for arm in [arm for arm in arms if arm.left == 0]:
            arms.remove(arm)
            process.host.note(f"{arm.kind} {name}")
            if arm.kind == "crash":
                raise Crash
            self._stop(slot, process, frozen=arm.kind == "frozen")
            if process.exit_code is not None:
                break  # killed while it was stopped
        if process.exit_code is not None and not process.host.alive:
            raise Crash

    def _stop(self, slot: int, process: WorkerProcess, frozen: bool) -> None:
        """Take the steps that follow, until the worker may go on."""
        mark = (process, process.activity)
        self._stopped.add(mark)
        process.host.frozen = frozen
        for step in self._steps:
            if step.what == "resume" and step.at == slot:
                break
            self._take(step)
        process.activity = mark[1]
        self._stopped.discard(mark)
        process.host.frozen = False
        process.host.note("goes on")

    def _note_end(self, process: WorkerProcess) -> None:
        if process.exit_code is not None:
            self.report.counts[f"exit {process.exit_code}"] += 1
        if process.mistake is not None:
            mistake, process.mistake = process.mistake, None
            self.report.violations.append(f"{process.host.name}: {type(mistake).__name__}: {mistake}")

    def _settle(self) -> None:
        """Faults end, late requests arrive, and the workers run until everything is answered."""
        self.cluster.note("schedule", "--- undisturbed from here on")
        for partition in list(self._upstream):
            self.do_close_input(Step("close_input", partition, word="committed"))
        self.cluster.down_until = self.disk.fails_until = 0.0
        self._arms = [[] for _ in self._arms]
        for process in filter(None, self._processes):
            process.host.faults.clear()
            process.host.cut_until = 0.0
        self.cluster.advance(13.0)
        slots = [slot for slot in range(self.plan.workers) if not (self.plan.twins and slot == 1)]
        if self.plan.twins:
            self.do_terminate(Step("terminate", 1))
        restarts: Counter[int] = Counter()
        for _ in range(ROUNDS_TO_REST):
            if verdict.at_rest(self) or self.report.violations:
                break
            for slot in slots:
                process = self._processes[slot]
                if process is None or process.exit_code is not None:
                    restarts[slot] += 1
                    if restarts[slot] > RESTARTS_TO_REST:
                        verdict.judge_end(self, slot, process)
                        return
                    self.do_start(Step("start", slot))
                self.do_turn(Step("turn", slot, number=1))
                self.do_write(Step("write", slot))
        else:
            self.report.violations.append(f"no rest after {ROUNDS_TO_REST} turns: committed {self.group.offsets}")
        for slot in slots:
            process = self._runnable(slot, "loop")
            self.do_terminate(Step("terminate", slot))
            if process is not None and process.exit_code != 0 and not self.report.violations:
                verdict.judge_end(self, slot, process)
