"""The codec `msgpack`: MessagePack objects."""

from __future__ import annotations

import msgspec

from worker.codecs.formats import ObjectFormat
from worker.codecs.objects import ObjectCodec
from worker.errors import BadRecord

MSGPACK = ObjectFormat(
    lambda kind: msgspec.msgpack.Decoder(kind).decode,
    lambda fault: BadRecord("not_msgpack", str(fault)),
)


class MsgpackCodec(ObjectCodec):
    """`ObjectCodec` of MessagePack."""

    format = MSGPACK
