"""Formats of objects: how a value is read as a type, and what is wrong with one that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from worker.errors import BadRecord

Decode = Callable[[bytes], Any]


@dataclass(frozen=True)
class ObjectFormat:
    """A wire format of objects.

    Attributes:
        decoder: a type as msgspec knows it -> the function that reads values as that type.
        malformed: what a value is that is not of this format at all.
    """

    decoder: Callable[[Any], Decode]
    malformed: Callable[[Exception], BadRecord]

    def read(self, decode: Decode, value: bytes) -> Any:
        """A value by one of this format's decoders.

        Raises:
            BadRecord: it is malformed, nested too deeply, or of another type.
        """
        try:
            return decode(value)
        except msgspec.ValidationError as fault:
            raise BadRecord(reason(fault), str(fault)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise self.malformed(fault) from None
        except RecursionError:
            raise BadRecord("too_deep", "nested too deeply") from None


def reason(fault: msgspec.ValidationError) -> str:
    """The metric label of a validation error of msgspec."""
    message = str(fault)
    if "of length" in message:
        return "wrong_feature_count"
    return "not_finite" if "out of range" in message else "wrong_type"
