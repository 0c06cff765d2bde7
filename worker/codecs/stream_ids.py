"""Stream IDs that stand in the values."""

from __future__ import annotations

import msgspec

from worker.codecs.formats import ObjectFormat


def stream_id(found: str | int | None) -> bytes | None:
    """A text or a whole number as a stream ID; surrogates stay what they are and are refused later, by name."""
    return None if found is None else str(found).encode("utf-8", "surrogatepass")


class StreamIdField:
    """Read the stream ID out of values, and nothing else.

    Args:
        name: of the member that holds it.
        format: of the values.
    """

    def __init__(self, name: str, format: ObjectFormat) -> None:
        fields = [("stream_id_", str | int | None, None)]
        self._format = format
        self._decode = format.decoder(msgspec.defstruct("WithStreamId", fields, rename={"stream_id_": name}))

    def of(self, value: bytes) -> bytes | None:
        """The stream ID of a value; None when it has none.

        Raises:
            BadRecord: the value is not an object of the format, or holds something else in that member.
        """
        return stream_id(self._format.read(self._decode, value).stream_id_)
