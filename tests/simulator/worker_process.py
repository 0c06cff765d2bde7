"""The real worker as a simulated process: its loop turn by turn, its checkpoint writer step by step."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import cache
from types import SimpleNamespace
from typing import Any

from tests.laws.reference import LeakySum
from tests.registry.small import just_started
from tests.simulator.host import Host
from tests.simulator.patches import now, turn_of
from tests.simulator.plan import Plan
from tests.simulator.settings import (
    BUCKETS,
    CAPACITY,
    DEAD_LETTERS,
    DIGEST,
    FEATURES,
    GROUP,
    IDLE_MS,
    INPUT,
    LAYOUT,
    OUTPUT,
    TOPIC_ID,
)
from tests.simulator.store import Disk, SimFolders
from worker.checkpoint import AnySnapshot, CheckpointStore, CheckpointWriter
from worker.codecs import JsonCodec
from worker.codecs.registered import RegisteredCodec, RegisteredValues
from worker.dead_letters import BadRecordLimit
from worker.encoding.json import JsonEncoder
from worker.engine import Engine
from worker.errors import CellstreamError, Refused
from worker.event_writer import EventWriter
from worker.kafka import Source, TransactionalSink
from worker.loop import Worker
from worker.reading import Reader
from worker.recovery.keeper import StateKeeper
from worker.recovery.start import Policies
from worker.registry.client import Registry
from worker.registry.judge import SchemaJudge


class Crash(BaseException):
    """The process dies here; nothing of ours may catch it."""


class SteppedWriter(CheckpointWriter):
    """The real writer; the schedule takes its steps, and whoever waits for it lets it work.

    Args:
        store: the real store.
        host: whose clock passes while it is slow.
        slow: only every third wait is long enough for a step.
    """

    def __init__(self, store: CheckpointStore, host: Host, slow: bool) -> None:
        super().__init__(store, 2, now)
        self._host = host
        self._slow = slow
        self._waits = 0
        self._steps = 0

    def step(self) -> None:
        """Write one snapshot, if one waits."""
        if not self._busy:
            self._steps = 1
            self._run()

    def wait(self, deadline_s: float) -> bool:
        """Write all that waits; one that is slow, or stopped in the middle of a file, lets time pass instead."""
        while not self.idle:
            self._waits += 1
            if self._busy or (self._slow and self._waits % 3):
                self._host.cluster.advance(deadline_s)
                return False
            self.step()
        return True

    def _next(self) -> AnySnapshot | None:
        self._steps -= 1
        return super()._next() if self._steps >= 0 and self._pending else None


class SilentObserver:
    """In place of metrics and health."""

    def turn(self, worker: Worker) -> None:
        """Take the writer's results, as the real one does: a failed checkpoint is due again."""
        worker.keeper.results()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class OneTurn:
    """A stop event that lets the loop turn once."""

    def __init__(self) -> None:
        self._asked = False

    def is_set(self) -> bool:
        """False the first time."""
        asked, self._asked = self._asked, True
        return asked


class WorkerProcess:
    """One `cellstream run`.

    Args:
        host: where it runs.
        plan: settings of all workers.
        slot: which of the workers.
        disk: of the checkpoints.
        registered: IDs of the schemas that the registry has.

    Attributes:
        exit_code: None while it runs; -9 when it was killed.
        said: why it ended, in its own words.
        mistake: a programming mistake that it died of.
        activity: which of its two threads takes a step, loop or write.
    """

    def __init__(self, host: Host, plan: Plan, slot: int, disk: Disk, registered: Set[int]) -> None:
        self.host = host
        self.exit_code: int | None = None
        self.said = ""
        self.activity = "loop"
        self.mistake: BaseException | None = None
        self.writer: SteppedWriter | None = None
        self._plan, self._slot, self._disk, self._registered = plan, slot, disk, registered
        self._worker: Worker | None = None

    def start(self) -> None:
        """Begin, as far as joining the group."""

        def begin() -> None:
            self._worker = self._assemble()
            self._worker.startup()

        self._guarded(begin)

    def turn(self) -> None:
        """One turn of the loop."""
        worker = self._worker
        assert worker is not None
        activity, self.activity = self.activity, "loop"
        self._guarded(lambda: worker.run(OneTurn()))  # type: ignore[arg-type]
        self.activity = activity

    def write(self) -> None:
        """One step of the checkpoint writer, a thread of its own: the loop may turn in the middle of it."""
        if self.writer is not None:
            self.activity = "write"
            self._guarded(self.writer.step)
            self.activity = "loop"

    def terminate(self) -> None:
        """SIGTERM."""
        worker = self._worker
        assert worker is not None
        self._guarded(worker.shutdown)
        if self.exit_code is None:
            self._end(0)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(-9)

    def _guarded(self, action: Callable[[], Any]) -> None:
        """Run a part of the process, and end it as `cellstream run` would."""
        with turn_of(self.host):
            try:
                action()
            except Crash:
                self._end(-9)
            except CellstreamError as fault:
                self.said = str(fault)
                self.host.note(f"exit {fault.exit_code}: {self.said[:160]}")
                self._guarded_end(3 if isinstance(fault, Refused) else fault.exit_code)
            except Exception as fault:  # noqa: BLE001 - the checker reports it with its schedule
                self.mistake = fault
                self._end(-6)

    def _guarded_end(self, code: int) -> None:
        try:
            if self._worker is not None:
                self._worker.fail()
        except Crash:
            code = -9
        self._end(code)

    def _end(self, code: int) -> None:
        if self.exit_code is None:
            self.host.note(f"ended with {code}")
            self.exit_code = code
        self.host.alive = False
        clients = self.host.cluster.clients
        clients[:] = [client for client in clients if getattr(client, "_host", None) is not self.host]

    def _assemble(self) -> Worker:
        plan = self._plan
        folders = SimFolders(self._disk, self.host)
        store = CheckpointStore("sim", GROUP, LAYOUT, folders=folders)
        self.writer = SteppedWriter(store, self.host, plan.slow_store)
        keeper = StateKeeper(
            self.writer,
            LeakySum.initial_state,
            CAPACITY,
            DIGEST,
            Policies(),
            plan.checkpoint_interval_s,
            plan.checkpoint_records,
            now,
            now,
        )
        strategy = "range" if plan.eager else "cooperative-sticky"
        conf = {"partition.assignment.strategy": strategy}
        instance = plan.instance(self._slot)
        return Worker(
            Source(conf, INPUT, GROUP),
            TransactionalSink(conf, OUTPUT, DEAD_LETTERS, f"tx-{instance}", instance),
            _engine(self._registered if plan.schemas else None),
            keeper,
            SilentObserver(),  # type: ignore[arg-type]
            BadRecordLimit(1.0),
            DIGEST,
            TOPIC_ID,
            plan.commit_interval_s,
            plan.poll_records,
            now,
        )


class SimRegistry(Registry):
    """The real one, with a client that knows these IDs."""

    def __init__(self, registered: Set[int]) -> None:
        self.__dict__ |= just_started(_registry()).__dict__
        schema = SimpleNamespace(schema_type="JSON", schema_str="{}", references=())

        def get_schema(schema_id: int) -> Any:
            if schema_id not in registered:
                raise self._answered_wrongly(404, 40403, "not found")
            return schema

        self._client = SimpleNamespace(get_schema=get_schema)


@cache
def _registry() -> Registry:
    """It takes a while to make the client, which the simulated ones do without."""
    return Registry("http://nowhere", clock=now)


def _engine(registered: Set[int] | None) -> Engine:
    """The real engine with a model of exact arithmetic."""
    encoder = JsonEncoder(["positive"], DIGEST[:12])
    model: Any = LeakySum(FEATURES, BUCKETS)
    reader = Reader(_codec())
    if registered is not None:
        codec = RegisteredCodec(_codec(), RegisteredValues("JSON", SimRegistry(registered)))
        reader = Reader(codec, judge=SchemaJudge(codec.objects, INPUT))
    return Engine(model, reader, EventWriter(encoder, True), INPUT, None, IDLE_MS / 1000)


@cache
def _codec() -> JsonCodec:
    """It builds its decoders at every turn of the interpreter's types; they keep nothing of a record."""
    return JsonCodec(["x", "y"], 10_000, 100)
