"""What the consumer hands over: records, as columns, or errors, as messages that are not records."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, Message

from worker.errors import FatalFault, StateRefused
from worker.kafka.access import ACCESS_ERRORS, missing_right
from worker.kafka.client import fatal
from worker.records import NO_TIMESTAMP, RecordBatch

log = logging.getLogger("librdkafka")

PASSING_ERRORS = (
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._PARTITION_EOF,  # no error, and only where a client was made to say it
)
# The next generation consumer protocol keeps the name of a static member (group.instance.id) that was killed until its
# session ends, 45 s by the broker's default; the classic protocol gives it to whoever comes. The client reports it as
# a fatal error of no code of its own.
NAME_TAKEN = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()


def batch_of(partition: int, messages: Sequence[Message]) -> RecordBatch:
    """Columns by unbound methods: the fastest way through ten thousand messages that Python has.

    Args:
        partition: of all of them.
        messages: at least one record, no error; in the order of the log.
    """
    headers = list(map(Message.headers, messages))
    epoch = messages[-1].leader_epoch()
    return RecordBatch(
        partition,
        list(map(Message.key, messages)),
        list(map(Message.value, messages)),
        list(map(Message.offset, messages)),
        [stamp[1] if stamp[0] else NO_TIMESTAMP for stamp in map(Message.timestamp, messages)],
        headers if any(headers) else None,
        -1 if epoch is None else epoch,
    )


def name_is_taken(message: Message) -> bool:
    """Whether a message says that a member of our name is still in its session."""
    error = message.error()
    return error is not None and NAME_TAKEN in error.str()


def end_of_log(message: Message) -> int | None:
    """The offset behind all that can be read now, when that is what a message says."""
    error = message.error()
    return message.offset() if error is not None and error.code() == KafkaError._PARTITION_EOF else None


def check(message: Message, topic: str, is_open: bool, rights: Mapping[str, str]) -> None:
    """Raise for a message that is an error, unless it passes by itself.

    Args:
        message: any.
        topic: the input topic.
        is_open: whether the worker reads the message's partition now.
        rights: what the consumer needs, by resource.

    Raises:
        FatalFault: the client cannot go on, or has no right to.
        StateRefused: the topic, or the open partition's next record, is gone.
    """
    error = message.error()
    if error is None or error.code() in PASSING_ERRORS:
        return
    where = f"{topic}[{message.partition()}]"
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        if is_open:
            raise StateRefused(
                f"{where}: the next record is gone from the log ({error.str()}); records were deleted beneath the "
                "worker. Restart it: it will say what state it has and what on_lost_state can do"
            )
        return
    if error.code() in ACCESS_ERRORS:
        raise FatalFault(missing_right(error, rights))
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise StateRefused(f"topic {topic} is not there: create it with `cellstream topics`")
    if error.retriable() and not error.fatal():
        log.warning("%s: %s", where, error.str())
        return
    raise fatal(where, error)
