"""Stream IDs that stand in the values."""

from __future__ import annotations

from typing import Any

import msgspec

from worker.codecs.formats import ObjectFormat
from worker.errors import BadRecord
from worker.field_paths import Path, follow


def stream_id(found: str | int | None) -> bytes | None:
    """A text or a whole number as a stream ID; surrogates stay what they are and are refused later, by name."""
    return None if found is None else str(found).encode("utf-8", "surrogatepass")


def stream_id_in(tree: dict[str, Any], path: Path) -> bytes | None:
    """The stream ID at the end of a path in a decoded value; None when there is none.

    Raises:
        BadRecord: something else is there.
    """
    found = follow(path, tree)
    if found is not None and type(found) not in (str, int):
        raise BadRecord("wrong_type", f"expected a text or a whole number as the stream ID, at step {path[-1]!r}")
    return stream_id(found)


class StreamIdField:
    """Read the stream ID out of values, and nothing else.

    Args:
        path: of the member that holds it.
        format: of the values.
    """

    def __init__(self, path: Path, format: ObjectFormat) -> None:
        self._format = format
        self._path = path
        self._nested = len(path) > 1
        if not self._nested:  # the other members are skipped and not built
            fields = [("stream_id_", str | int | None, None)]
            kind: Any = msgspec.defstruct("WithStreamId", fields, rename={"stream_id_": str(path[0])})
            self._decode = format.decoder(kind)
        else:
            self._decode = format.decoder(dict[str, Any])

    def of(self, value: bytes) -> bytes | None:
        """The stream ID of a value; None when it has none.

        Raises:
            BadRecord: the value is not an object of the format, or holds something else in that member.
        """
        found = self._format.read(self._decode, value)
        return stream_id_in(found, self._path) if self._nested else stream_id(found.stream_id_)
