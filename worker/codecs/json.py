"""The codec `json`: JSON objects."""

from __future__ import annotations

import msgspec

from worker.codecs.formats import ObjectFormat
from worker.codecs.objects import ObjectCodec
from worker.errors import BadRecord

JSON = ObjectFormat(
    lambda kind: msgspec.json.Decoder(kind).decode,
    lambda fault: BadRecord("not_json", str(fault)),
)


class JsonCodec(ObjectCodec):
    """`ObjectCodec` of JSON."""

    format = JSON
