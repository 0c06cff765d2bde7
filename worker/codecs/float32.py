"""The codec `float32`: raw vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.codecs.codec import Codec, Decoded, Sample
from worker.errors import BadRecord


class Float32Codec(Codec):
    """The raw little-endian vector; several in a row are a chunk."""

    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, where each is one sample."""
        width = 4 * self.features
        if set(map(len, values)) != {width} or width > self.max_bytes:
            return None
        inputs = np.frombuffer(b"".join(values), "<f4").reshape(len(values), self.features)
        return Decoded(inputs.astype(np.float32, copy=False), np.ones(len(values), np.int64))

    def one(self, value: bytes) -> Sample:
        """One value, whatever it is."""
        width = 4 * self.features
        if not value or len(value) % width:
            raise BadRecord(
                "wrong_size", f"expected {width} bytes ({self.features} float32) or a multiple, received {len(value)}"
            )
        return Sample(np.frombuffer(value, "<f4").reshape(-1, self.features).astype(np.float32, copy=False))
