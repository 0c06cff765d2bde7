"""The simulated Producer: librdkafka's transactional state machine as `programs.py` sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from confluent_kafka import KafkaError, KafkaException

from tests.simulator.errors import Retry, TimedOut, abortable, fenced, out_of_order, timed_out
from tests.simulator.host import Host
from tests.simulator.log import Entry, Log


class SimProducer:
    """confluent_kafka's Producer, as far as the worker uses it.

    Args:
        host: the process it lives in.
        conf: properties; transactional.id and transaction.timeout.ms are obeyed.
    """

    def __init__(self, host: Host, conf: Mapping[str, Any], **_: Any) -> None:
        self._host = host
        self._cluster = host.cluster
        self._name: str | None = conf.get("transactional.id")
        self._timeout_s = int(conf.get("transaction.timeout.ms", 60_000)) / 1000
        self._state = "new"
        self._epoch = -1
        self._error: KafkaException | None = None
        self._queue: list[tuple[Log, Entry]] = []
        self._known: set[Log] = set()
        self._involved = False

    def __len__(self) -> int:
        return len(self._queue)

    def init_transactions(self, timeout: float) -> None:
        """Register the transactional.id."""
        name = self._expect("new")
        self._epoch = self._ask("init", lambda: self._cluster.coordinator.init(name, self._timeout_s), timeout)
        self._state = "ready"

    def begin_transaction(self) -> None:
        """Begin; the broker does not hear of it yet."""
        self._expect("ready")
        self._state = "open"
        self._known, self._involved = set(), False

    def produce(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int = -1, **rest: Any
    ) -> None:
        """Queue a record."""
        self._raise_error(fatal_only=True)
        if self._name is not None and (self._state != "open" or self._error is not None):
            raise out_of_order(f"produce() in state {self._state}")  # a failed transaction does not say why
        if self._host.faults.pop("queue", None) is not None:
            raise BufferError
        logs = self._cluster.topics[topic]
        log = logs[partition if partition >= 0 else crc32(key or b"") % len(logs)]
        self._queue.append((log, Entry(False, key, value, rest.get("headers"), round(self._cluster.now * 1000))))

    def poll(self, timeout: float) -> int:
        """Serve the client; what is queued may leave now."""
        if self._host.delivers_at_once and self._host.reaches:
            self._deliver()
        return 0

    def flush(self, timeout: float) -> int:
        """Wait until what is queued has left; returns how many have not."""
        self._raise_error()
        if self._queue and self._host.reachable_at <= self._cluster.now + timeout:
            self._cluster.advance(max(0.0, self._host.reachable_at - self._cluster.now))
            self._deliver()
            self._raise_error(fatal_only=True)
        elif self._queue:
            self._cluster.advance(timeout)
        return len(self._queue)

    def purge(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    def send_offsets_to_transaction(self, positions: list[Any], metadata: Any, timeout: float) -> None:
        """Make offsets part of the transaction."""
        name, epoch = self._expect("open"), self._epoch
        self._raise_error()
        group_id, member, generation = metadata
        group = self._cluster.group(group_id)
        offsets = {(p.topic, p.partition): (p.offset, p.metadata or "") for p in positions}

        def apply() -> None:
            transaction = self._cluster.coordinator.add_offsets(name, epoch, group)
            self._involved = True
            group.add(transaction, member, generation, offsets)

        self._ask("send_offsets", apply, timeout)

    def commit_transaction(self, timeout: float) -> None:
        """Deliver what is queued, and commit; after a time-out the same call goes on."""
        self._expect("open", "committing")
        self._raise_error()
        self._state = "committing"
        deadline = self._cluster.now + timeout
        if self.flush(timeout):
            raise timed_out()
        self._raise_error()
        self._end(commit=True, timeout_s=max(0.0, deadline - self._cluster.now))

    def abort_transaction(self, timeout: float) -> None:
        """Abort; after a time-out the same call goes on."""
        self._expect("open", "aborting")
        self._state = "aborting"
        self._queue.clear()
        self._end(commit=False, timeout_s=timeout)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Whether a broker answers."""
        self._ask("metadata", lambda: None, timeout)

    def _end(self, commit: bool, timeout_s: float) -> None:
        if self._involved:
            name, epoch = self._name, self._epoch
            assert name is not None
            self._ask("end", lambda: self._cluster.coordinator.end(name, epoch, commit), timeout_s)
        self._state, self._error = "ready", None

    def _deliver(self) -> None:
        """Send what is queued; sequence numbers make a repeated request the same one, so that it has no faults."""
        if not self._queue or self._error is not None:
            return
        self._host.point("before produce")
        records, self._queue = self._queue, []
        if self._name is None:
            for log, entry in records:
                log.append(entry)
            return
        try:
            self._cluster.coordinator.produce(self._name, self._epoch, records, self._known)
            self._involved = True
        except Retry:
            self._queue = records
            self._cluster.advance(0.02)
            return self._deliver()
        except KafkaException as fault:
            if fault.args[0].fatal():
                self._error = fault
            else:
                self._error = abortable(fault.args[0].code(), "delivery failed")
        self._host.point("after produce")
        return None

    def _ask(self, api: str, apply: Any, timeout_s: float) -> Any:
        fault = self._host.faults.get(api)
        if fault is not None and fault.kind in ("retriable", "abortable", "fatal"):
            del self._host.faults[api]
            self._host.note(f"{api}: {fault.kind}")
            if fault.kind == "retriable":
                raise KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, "as told", retriable=True))
            if fault.kind == "fatal":  # as librdkafka spells it: not even fatal() says so (rule 12a)
                self._error = KafkaException(KafkaError(KafkaError._FATAL, "as told"))
                raise self._error
            return self._fail(KafkaException(KafkaError(KafkaError.INVALID_TXN_STATE, "as told")))
        try:
            return self._host.request(api, apply, timeout_s)
        except TimedOut:
            raise timed_out() from None
        except KafkaException as fault_:
            return self._fail(fault_)

    def _fail(self, fault: KafkaException) -> None:
        """An error of the broker's: what fences is fatal; what cannot be told from a bug ends an abort, else aborts."""
        error = fault.args[0]
        if error.fatal():
            self._error = fault
        elif self._state in ("aborting", "new"):
            self._error = KafkaException(KafkaError(error.code(), error.str(), fatal=True))
        else:
            self._error = abortable(error.code(), error.str())
            self._state = "open"
        raise self._error

    def _expect(self, *states: str) -> str:
        if self._name is None:
            raise out_of_order("no transactional.id")
        self._raise_error(fatal_only=True)
        if self._state not in states:
            raise out_of_order(f"in state {self._state}")
        return self._name

    def _raise_error(self, fatal_only: bool = False) -> None:
        if self._error is not None:
            error = self._error.args[0]
            if error.code() == KafkaError._FENCED:
                raise fenced()
            if not fatal_only or error.fatal() or error.code() == KafkaError._FATAL:
                raise self._error
