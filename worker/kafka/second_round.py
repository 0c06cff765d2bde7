"""The second round of a rebalance, asked for when the member that owed it died.

Cooperative-sticky hands over in two rounds: in the first one members give up what goes, and then each of them asks for
the second one, which gives it away. A member that dies between the two asks for nothing. The group notices by its
session; but a static member (`group.instance.id`) that is back within its session is given what the first round left
to its predecessor, nobody knows of a second one, and what was given up has no owner until somebody joins or leaves.
So a static member looks once, when it has joined.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupState, KafkaException, TopicCollection

log = logging.getLogger("librdkafka")

REQUEST_TIMEOUT_S = 10.0
PAUSE_S = 0.5


class SecondRound:
    """Asks the broker, in the background, whether the group left partitions without an owner.

    Args:
        admin: a client for administration.
        group_id: the consumer group.
        topic: the input topic.
    """

    def __init__(self, admin: Any, group_id: str, topic: str) -> None:
        self._admin = admin
        self._group_id = group_id
        self._topic = topic
        self._answers: list[Future[Any]] = []
        self._ask_at = 0.0
        self._settled = False

    def is_owed(self) -> bool:
        """Whether this member must ask for it; True once at most. Returns at once.

        One look is enough: whoever is alive asks by itself, and whoever takes a dead one's name looks as well. A look
        that finds partitions between two rounds of living members is not wrong either, it only asks before them.
        """
        if self._settled or (not self._answers and time.monotonic() < self._ask_at):
            return False
        if not self._answers:
            self._answers = self._ask()
        if not all(answer.done() for answer in self._answers):
            return False
        answers, self._answers = self._answers, []
        self._ask_at = time.monotonic() + PAUSE_S
        try:
            group, topic = (answer.result() for answer in answers)
        except KafkaException as fault:
            log.warning("owners of %s: %s; again", self._topic, fault.args[0].str())
            return False
        if group.state != ConsumerGroupState.STABLE:  # a round is on, and this member is in it
            return False
        self._settled = True
        found = [entry for member in group.members for entry in member.assignment.topic_partitions]
        orphans = {p.id for p in topic.partitions} - {entry.partition for entry in found if entry.topic == self._topic}
        if orphans:
            log.warning("joining again: nobody owns %s%s", self._topic, sorted(orphans))
        return bool(orphans)

    def _ask(self) -> list[Future[Any]]:
        groups = self._admin.describe_consumer_groups([self._group_id], request_timeout=REQUEST_TIMEOUT_S)
        topics = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=REQUEST_TIMEOUT_S)
        return [groups[self._group_id], topics[self._topic]]
