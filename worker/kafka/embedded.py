"""A Kafka broker inside this process: librdkafka's mock cluster, on loopback, for the demo and for fast tests.

Any client of this machine can use it, from other processes too, and it ends with the object. It speaks Kafka's
protocol for producing, consuming, groups and transactions, and it is not a Kafka:

- a topic appears when it is asked for, always with `PARTITIONS` partitions; there are no topic settings and no IDs;
- each partition keeps its newest 5 MB (as compressed by the producer), in memory; older records go without a word;
- offsets sent to a transaction are accepted and forgotten: a group stays at the offsets that a plain commit stored;
- records of aborted transactions are visible to read_committed readers, and a fenced producer may still commit;
- a classic group's first rebalance takes 3 s, each further one the session time-out less 1 s.

So it proves nothing about exactly-once and a worker cannot resume on it in `exactly_once`. tests/contract holds each
of these as a strict xfail, so that a librdkafka that mends one is noticed.
"""

from __future__ import annotations

from types import TracebackType

from confluent_kafka import KafkaException, Producer

from worker.errors import FatalFault

PARTITIONS = 4
CLUSTER_ID_PREFIX = "mockCluster"  # how librdkafka names these clusters; a real one has a random base64 UUID
_TIMEOUT_S = 5.0


class EmbeddedBroker:
    """The mock cluster, started by the constructor and ended by `close`.

    Raises:
        FatalFault: this librdkafka has no mock cluster, or loopback cannot be used.
    """

    def __init__(self) -> None:
        # The cluster lives in a client: its own producer, which stays unused.
        try:
            self._client = Producer({"test.mock.num.brokers": 1, "log_level": 3})
            brokers = self._client.list_topics(timeout=_TIMEOUT_S).brokers.values()
        except KafkaException as fault:
            raise FatalFault(f"the embedded broker did not start: {fault.args[0].str()}") from None
        self._bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    @property
    def bootstrap_servers(self) -> str:
        """HOST:PORT on loopback, for clients of any process of this machine."""
        return self._bootstrap_servers

    def create_topics(self, *names: str) -> None:
        """Make the topics exist, each with `PARTITIONS` partitions: asking for their metadata creates them.

        Raises:
            FatalFault: the broker is closed, or refuses a name.
        """
        for name in names:
            try:
                error = self._client.list_topics(name, timeout=_TIMEOUT_S).topics[name].error
            except (KafkaException, RuntimeError) as fault:
                raise FatalFault(f"topic {name} on the embedded broker: {fault}") from None
            if error is not None:
                raise FatalFault(f"topic {name} on the embedded broker: {error.str()}")

    def close(self) -> None:
        """End the broker; its records are gone and its clients see a broken connection. May be called again."""
        self._client.close()

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_embedded(cluster_id: str) -> bool:
    """Whether a cluster ID is that of an embedded broker."""
    return cluster_id.startswith(CLUSTER_ID_PREFIX)
