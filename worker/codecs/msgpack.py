"""The codec `msgpack`: MessagePack objects."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from worker.codecs.codec import Missing
from worker.codecs.formats import ObjectFormat
from worker.codecs.objects import ObjectCodec
from worker.errors import BadRecord

MSGPACK = ObjectFormat(
    lambda kind: msgspec.msgpack.Decoder(kind).decode,
    lambda fault: BadRecord("not_msgpack", str(fault)),
)


class MsgpackCodec(ObjectCodec):
    """`ObjectCodec` of MessagePack."""

    def __init__(
        self,
        names: Sequence[str],
        max_bytes: int,
        max_samples: int,
        stream_id_field: str | None = None,
        missing: Missing = "refuse",
    ) -> None:
        super().__init__(MSGPACK, names, max_bytes, max_samples, stream_id_field, missing)
