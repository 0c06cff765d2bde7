"""What the worker asks of a cluster beside its records: topics, their IDs, partitions and settings.

Every call is bounded by `timeout_s` and its failure says what was asked, of whom, and what the client heard from
the brokers meanwhile: librdkafka retries a refused connection or a wrong password for ever, and only its error
callback knows the cause (RELIABILITY rule 12b). Topics are described, never asked for by metadata: on a cluster
with auto-creation, a look would create them. The embedded broker knows neither topic IDs nor topic settings; for it
both are empty.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from worker.errors import FatalFault, UsageError
from worker.kafka.access import ACCESS_ERRORS, missing_right, refusal
from worker.kafka.client import new_client
from worker.kafka.embedded import is_embedded
from worker.kafka.rights import Right, lacking

TIMEOUT_S = 10.0
LISTEN_S = 0.5  # between two looks at what the client has heard meanwhile
BROKER_DEFAULT = -1  # of a replication factor: the cluster decides (KIP-464)


@dataclass(frozen=True)
class Topic:
    """A topic as the cluster describes it; `topic_id` and `settings` are empty on the embedded broker."""

    name: str
    topic_id: str
    partitions: int
    replication_factor: int
    settings: Mapping[str, str] = field(default_factory=dict)


class AccessDenied(FatalFault):
    """The broker answers, but this client's principal lacks a right."""


class Cluster:
    """Administration of one cluster.

    Args:
        conf: librdkafka properties with `bootstrap.servers`; those of consumers and producers do no harm.
        timeout_s: bound of every single call.
    """

    def __init__(self, conf: Mapping[str, str], timeout_s: float = TIMEOUT_S) -> None:
        self._servers = conf["bootstrap.servers"]
        self._timeout_s = timeout_s
        self._heard: list[KafkaError] = []
        # Silent: what goes wrong is in the errors raised here, and a consumer's property is no reason for a warning.
        self._client = new_client(AdminClient, {"log_level": "0", **conf, "error_cb": self._heard.append})

    def cluster_id(self) -> str:
        """The cluster's own ID; the cheapest question that proves that a broker answers, and accepts this client.

        Raises:
            UsageError: the brokers refuse the client's credentials.
            FatalFault: none answers.
        """
        deadline = time.monotonic() + self._timeout_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                return str(self._client.cluster_id(min(LISTEN_S, max(0.0, left_s))))
            except KafkaException as fault:
                self._client.poll(0)  # serves the error callback
                refusals = [words for words in map(refusal, self._heard) if words]
                if refusals:
                    raise UsageError(refusals[-1]) from None
                if left_s < LISTEN_S:
                    raise self._fault("the cluster's ID", fault) from None

    def expect(self, rights: Sequence[Right]) -> None:
        """Ask for all rights on topics before anything is done: later the client would not say which one it misses.

        Where the broker does not tell rights, nothing is missing; a topic that does not exist is for others to find.

        Raises:
            FatalFault: a right is missing; names all that are. Or no answer in time.
        """
        if is_embedded(self.cluster_id()):
            return
        on_topics = [right for right in rights if right.resource == "topic"]
        asked = self._client.describe_topics(
            TopicCollection([right.name for right in on_topics]),
            include_authorized_operations=True,
            request_timeout=self._timeout_s,
        )
        missing = [right for right in on_topics if not self._has(right, asked[right.name])]
        if missing:
            raise FatalFault(lacking(missing))

    def _has(self, right: Right, answer: Future[Any]) -> bool:
        try:
            described = self._result(f"rights on topic {right.name}", answer)
        except AccessDenied:
            return False
        allowed = {one.name for one in (described and described.authorized_operations) or ()}
        return not allowed or right.operation in allowed

    def topics(self, names: Sequence[str], with_settings: bool = True) -> dict[str, Topic]:
        """Describe the named topics; those that do not exist are left out.

        Args:
            names: of the topics.
            with_settings: also their settings, which takes the right to describe configurations.

        Raises:
            FatalFault: no answer in time, or no right to describe.
        """
        if is_embedded(self.cluster_id()):
            return self._embedded_topics(names)
        found: dict[str, Topic] = {}
        asked = self._client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s)
        for name in names:
            answer = self._result(f"topic {name}", asked[name])
            if answer is not None:
                replicas = min((len(partition.replicas) for partition in answer.partitions), default=0)
                settings = self._settings(name) if with_settings else {}
                found[name] = Topic(name, str(answer.topic_id), len(answer.partitions), replicas, settings)
        return found

    def create(self, name: str, partitions: int, replication_factor: int, settings: Mapping[str, str]) -> None:
        """Create a topic; that somebody else was faster is not an error.

        Args:
            name: of the topic.
            partitions: at least 1; the embedded broker decides itself.
            replication_factor: `BROKER_DEFAULT` leaves it to the cluster.
            settings: topic settings, such as `retention.ms`.

        Raises:
            FatalFault: no answer in time, no right to create, or the cluster cannot have such a topic.
        """
        if is_embedded(self.cluster_id()):
            self._client.list_topics(name, timeout=self._timeout_s)
            return
        topic = NewTopic(name, partitions, replication_factor, config=dict(settings))
        asked = self._client.create_topics([topic], request_timeout=self._timeout_s)
        self._result(f"creating topic {name}", asked[name], passed_over=KafkaError.TOPIC_ALREADY_EXISTS)

    def has_records(self, topic: Topic) -> bool:
        """Whether anything is in a topic's log, what was aborted included, and what is not committed yet left out.

        Raises:
            FatalFault: no answer in time, or no right to describe.
        """
        bounds = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
            wanted = {TopicPartition(topic.name, partition): spec for partition in range(topic.partitions)}
            asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout_s
            )
            bounds.append([self._result(f"log bounds of {topic.name}", asked[entry]).offset for entry in wanted])
        return bounds[0] != bounds[1]

    def _settings(self, name: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        asked = self._client.describe_configs([resource], request_timeout=self._timeout_s)
        answer = self._result(f"settings of topic {name}", asked[resource])
        return {key: entry.value for key, entry in (answer or {}).items() if entry.value is not None}

    def _embedded_topics(self, names: Sequence[str]) -> dict[str, Topic]:
        known = self._client.list_topics(timeout=self._timeout_s).topics
        return {name: Topic(name, "", len(known[name].partitions), 1) for name in names if name in known}

    def _result(
        self, what: str, future: Future[Any], passed_over: int = KafkaError.UNKNOWN_TOPIC_OR_PART
    ) -> Any:  # confluent_kafka has no types for its results
        """The future's result; None for the error that is an answer too."""
        try:
            return future.result(self._timeout_s + 1)  # the client's own time-out comes first and says more
        except KafkaException as fault:
            if fault.args[0].code() == passed_over:
                return None
            raise self._fault(what, fault) from None
        except TimeoutError as fault:
            raise FatalFault(f"{what}: no answer from {self._servers} within {self._timeout_s:g} s") from fault

    def _fault(self, what: str, fault: KafkaException) -> FatalFault:
        self._client.poll(0)  # serves the error callback
        error = fault.args[0]
        if error.code() in ACCESS_ERRORS:
            return AccessDenied(missing_right(error, {"topic": f"DESCRIBE (in READ and WRITE) for {what}"}))
        causes = [heard.str() for heard in self._heard if heard.code() != KafkaError._ALL_BROKERS_DOWN]
        if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
            heard = f": {causes[-1]}" if causes else ""
            advice = (
                "check bootstrap_servers, that the broker runs, and CELLSTREAM_KAFKA__SECURITY_PROTOCOL: a listener "
                "that expects TLS or a login hangs up without a word"
            )
            return FatalFault(f"{what}: no answer from {self._servers} within {self._timeout_s:g} s{heard} ({advice})")
        return FatalFault(f"{what}: {error.name()}: {error.str()}")


def topic_id(conf: Mapping[str, str], name: str, timeout_s: float = TIMEOUT_S) -> str:
    """The ID that a topic keeps for life and does not share with a later one of its name; "" where there is none.

    Raises:
        FatalFault: no answer in time, no right to describe, or no such topic.
    """
    return _existing(conf, name, timeout_s, with_settings=False).topic_id


def partition_count(conf: Mapping[str, str], name: str, timeout_s: float = TIMEOUT_S) -> int:
    """The number of a topic's partitions.

    Raises:
        FatalFault: as `topic_id`.
    """
    return _existing(conf, name, timeout_s, with_settings=False).partitions


def topic_settings(conf: Mapping[str, str], name: str, timeout_s: float = TIMEOUT_S) -> Mapping[str, str]:
    """A topic's settings in force, such as `retention.ms`; empty on the embedded broker.

    Raises:
        FatalFault: as `topic_id`.
    """
    return _existing(conf, name, timeout_s, with_settings=True).settings


def _existing(conf: Mapping[str, str], name: str, timeout_s: float, with_settings: bool) -> Topic:
    found = Cluster(conf, timeout_s).topics([name], with_settings)
    if name not in found:
        raise FatalFault(
            f"topic {name} does not exist on {conf['bootstrap.servers']}: create it with `cellstream topics`"
        )
    return found[name]
