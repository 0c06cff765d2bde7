"""The codec `json`: JSON objects."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from worker.codecs.codec import Missing
from worker.codecs.formats import ObjectFormat
from worker.codecs.objects import ObjectCodec
from worker.errors import BadRecord

JSON = ObjectFormat(
    lambda kind: msgspec.json.Decoder(kind).decode,
    lambda fault: BadRecord("not_json", str(fault)),
)


class JsonCodec(ObjectCodec):
    """`ObjectCodec` of JSON."""

    def __init__(
        self,
        names: Sequence[str],
        max_bytes: int,
        max_samples: int,
        stream_id_field: str | None = None,
        missing: Missing = "refuse",
    ) -> None:
        super().__init__(JSON, names, max_bytes, max_samples, stream_id_field, missing)
