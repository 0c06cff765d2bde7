"""One Apache Kafka broker as a local JVM (KRaft) on a log directory of its own, its controller in it or beside it."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tests.brokers.ports import free_ports
from tests.brokers.process import Process
from tests.brokers.waiting import wait_for_metadata

# What a lone node needs, and time-outs short enough for a test to see a dead or silent client noticed.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "500",
}
START_S = 180.0  # seconds at most; it takes four, and much longer on a machine that starts several at once


class KafkaProcess:
    """A broker that a test may stop, kill, freeze and bring back on its log.

    Args:
        jars: directory of Kafka's jars.
        directory: empty or a former broker's; holds the log, the settings and `kafka.log`.
        settings: added to `SETTINGS`; read at every start.
        heap_mb: limit of the JVM's heap.
        proxied: port of a proxy on this machine through which clients may come, too: those that connect to
            `behind_proxy` by way of it are sent through it for everything. None opens no such door.
        cluster_id: of several nodes, the same for all; None makes one.
        controller: a controller that runs apart; None has the broker be its own.

    Attributes:
        format_flags: added where the log directory is formatted.
    """

    format_flags: tuple[str, ...] = ()

    def __init__(
        self,
        jars: Path,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = 1024,
        *,
        proxied: int | None = None,
        cluster_id: str | None = None,
        controller: KafkaProcess | None = None,
    ) -> None:
        self.directory = directory
        self._controller = controller
        self._jars = jars
        self._heap_mb = heap_mb
        self.settings = dict(settings or {})
        self._process: Process | None = None
        self._proxied = proxied
        self._cluster_id = controller._cluster_id if controller else cluster_id or new_cluster_id()
        self._port, self.controller_port, self.behind_proxy = free_ports(3)

    @property
    def bootstrap_servers(self) -> str:
        """Stays the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def process(self) -> Process:
        """The JVM that runs now."""
        assert self._process is not None, "the broker is not running"
        return self._process

    def start(self, timeout_s: float = START_S) -> None:
        """Format the log directory if it is new, start the JVM and wait until it serves metadata.

        Raises:
            RuntimeError: it ended or did not answer in time; the message ends with its log.
        """
        self.launch()
        self._wait_until_ready(time.monotonic() + timeout_s)

    def launch(self) -> None:
        """Start it without waiting: the first of several nodes is not ready before the second."""
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        if not (self.directory / "logs").exists():
            self._tool("format", "-t", self._cluster_id, "-c", str(properties), *self.format_flags)
        arguments = [f"-Xmx{self._heap_mb}m", "-Xms128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command = [*self._java(), *arguments, "kafka.Kafka", str(properties)]
        self._process = Process(command, self.directory / "kafka.log")

    def stop(self) -> None:
        """End the broker in order; by force if it takes longer than a few seconds."""
        if self._process is not None:
            self._process.stop(timeout_s=10)
            self._process = None

    def kill(self) -> None:
        """`kill -9`: the log stays as the crash left it."""
        self.process.kill()
        self._process = None

    def restart(self) -> None:
        """Start again on the log of the broker that was stopped or killed."""
        assert self._process is None, "stop or kill the broker first"
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.thaw()

    def __enter__(self) -> KafkaProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _properties(self) -> dict[str, str]:
        door, sign = "", ""
        if self._proxied is not None:
            door = f",PROXIED://127.0.0.1:{self.behind_proxy}"
            sign = f",PROXIED://127.0.0.1:{self._proxied}"
        voter = self._controller or self
        roles = {"process.roles": "broker", "node.id": "2"}
        if voter is self:
            roles = {}
            door += f",CONTROLLER://127.0.0.1:{self.controller_port}"
        return {
            **SETTINGS,
            **roles,
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@127.0.0.1:{voter.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap_servers}{door}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}{sign}",
            "log.dirs": str(self.directory / "logs"),
            **self.settings,
        }

    def _java(self) -> list[str]:
        java = shutil.which("java")
        assert java is not None, "no java on the path"
        return [java, "-cp", f"{self._jars}/*"]

    def _tool(self, *arguments: str) -> str:
        # One slow core for a second: the tool ends before a compiler or a parallel collector would pay.
        command = [*self._java(), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "kafka.tools.StorageTool", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
        if answer.returncode != 0:
            raise RuntimeError(f"kafka-storage {arguments[0]} failed:\n{(answer.stdout + answer.stderr)[-2000:]}")
        return answer.stdout

    def _wait_until_ready(self, deadline: float) -> None:
        try:
            wait_for_metadata(self.bootstrap_servers, deadline, gone=lambda: self.process.returncode is not None)
        except TimeoutError:
            tail = self.process.tail()
            self.process.kill()
            self._process = None
            raise RuntimeError(f"the Kafka broker in {self.directory} did not come up:\n{tail}") from None


@contextmanager
def broker_to_harm(
    jars: Path, directory: Path, settings: Mapping[str, str], heap_mb: int, proxied: int | None = None
) -> Iterator[KafkaProcess]:
    """A broker that may be killed and frozen, with a controller beside it that is left alone.

    A broker that is its own controller comes back, on a slow machine, with metadata of the past for a moment. Seen in a
    soak: its coordinator ended a transaction without a marker in topics that it had not heard of yet, and the next
    commit of that producer confirmed what had been aborted. In a cluster, the controllers outlive a broker.

    Args:
        jars: see `KafkaProcess`, whose broker this is; and so the others.
        directory: the broker's, with the controller's in it.
        settings: the broker's.
        heap_mb: the broker's.
        proxied: the broker's.
    """
    controller = KafkaProcess(jars, directory / "controller", heap_mb=256)
    place = f"CONTROLLER://127.0.0.1:{controller.controller_port}"
    controller.settings = {"process.roles": "controller", "listeners": place, "advertised.listeners": place}
    controller.launch()
    try:
        with KafkaProcess(jars, directory, settings, heap_mb, proxied=proxied, controller=controller) as broker:
            yield broker
    finally:
        controller.stop()


def new_cluster_id() -> str:
    """A random UUID in Kafka's spelling: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
