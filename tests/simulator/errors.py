"""The client's errors with the flags that a real one gives them, and what the broker says inside."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException


class Retry(Exception):
    """The broker asks the client to try again: a transaction is being settled, or offsets wait for one."""


class TimedOut(Exception):
    """No answer within the time that the call was given."""


def timed_out() -> KafkaException:
    """A call's outcome is unknown."""
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", retriable=True))


def fenced() -> KafkaException:
    """Every call of a producer whose epoch is an old one, from the first that asks the broker on."""
    return KafkaException(KafkaError(KafkaError._FENCED, "fenced by a newer instance", fatal=True))


def out_of_order(words: str) -> KafkaException:
    """A call that does not fit the client's state."""
    return KafkaException(KafkaError(KafkaError._STATE, words))


def plain(code: int, words: str = "") -> KafkaException:
    """An error without flags."""
    return KafkaException(KafkaError(code, words))


def abortable(code: int, words: str = "") -> KafkaException:
    """An error after which only an abort is possible."""
    return KafkaException(KafkaError(code, words, txn_requires_abort=True))
