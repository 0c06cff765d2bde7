"""Samples in objects of other shapes: features, stream ID, timestep and event time from where paths say.

Only for deployments that set such a path: every value is read as a tree first, which takes several times as long as
the plain codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from worker.codecs.codec import Codec, Decoded, Sample, timestep_of
from worker.codecs.objects import ObjectCodec
from worker.codecs.stream_ids import stream_id_in
from worker.errors import BadRecord
from worker.field_paths import Path, follow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253_402_300_799_999  # of the year 9999

Vector = list[float]


class MappedCodec(Codec):
    """Take parts of an object from where paths say; what no path names is read by the plain codec.

    Args:
        plain: of the same format.
        features: one path for each feature, or a single one of a list of them all; None leaves them to the plain codec.
        stream_id: None leaves the stream ID to the key.
        timestep: of the producer's own count, which is checked to be one; handed over where the plain codec is told to.
        time: of the event time; where it leads nowhere, the record's timestamp counts.
    """

    def __init__(
        self,
        plain: ObjectCodec,
        features: Sequence[Path] | None = None,
        stream_id: Path | None = None,
        timestep: Path | None = None,
        time: Path | None = None,
    ) -> None:
        super().__init__(plain.features, plain.max_bytes, plain.max_samples, plain.missing, plain.timesteps)
        self._plain = plain
        self._decode = plain.format.decoder(dict[str, Any])
        self._features = features
        self._stream_id = stream_id
        self._timestep = timestep if timestep is not None or features is None else ("timestep",)
        self._time = time

    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, where each is one sample."""
        if max(map(len, values)) > self.max_bytes:
            return None
        try:
            trees = [self._tree(value) for value in values]
            decoded = self._plain.bulk(values) if self._features is None else self._bulk_features(trees)
            if decoded is None:
                return None
            if self.timesteps and self._timestep is not None:
                decoded.timesteps = [self._timestep_in(tree) for tree in trees]
            if self._stream_id is not None:
                decoded.stream_ids = [stream_id_in(tree, self._stream_id) for tree in trees]
            decoded.times = [self._time_in(tree) for tree in trees] if self._time is not None else None
        except BadRecord:  # one by one it is found again, with its position
            return None
        return decoded

    def _bulk_features(self, trees: Sequence[dict[str, Any]]) -> Decoded | None:
        rows = [self._features_in(tree) for tree in trees]
        vectors = [vector for vector in rows if vector is not None]
        if len(vectors) < len(rows):
            return None
        return Decoded(
            self._plain.array(vectors, len(vectors)),
            np.ones(len(vectors), np.int64),
            [i for i, tree in enumerate(trees) if _marker(tree, "start_of_sequence")],
            [i for i, tree in enumerate(trees) if _marker(tree, "end_of_sequence")],
        )

    def one(self, value: bytes) -> Sample:
        """One value, whatever it is."""
        tree = self._tree(value)
        if self._features is None:
            sample = self._plain.one(value)
        else:
            vector = self._features_in(tree)
            vectors = [] if vector is None else [vector]
            start, end = _marker(tree, "start_of_sequence"), _marker(tree, "end_of_sequence")
            sample = Sample(self._plain.array(vectors, len(vectors)), start, end)
        if self.timesteps and self._timestep is not None:
            sample.timestep = self._timestep_in(tree)
        if self._stream_id is not None:
            sample.stream_id = stream_id_in(tree, self._stream_id)
        if self._time is not None:
            sample.time = self._time_in(tree)
        return sample

    def _tree(self, value: bytes) -> dict[str, Any]:
        tree: dict[str, Any] = self._plain.format.read(self._decode, value)
        if self._timestep is not None and not self.timesteps:
            timestep = follow(self._timestep, tree)
            if timestep is not None and type(timestep) is not int:
                raise BadRecord("wrong_type", "expected a whole number as the timestep")
        return tree

    def _timestep_in(self, tree: dict[str, Any]) -> int | None:
        assert self._timestep is not None
        found = follow(self._timestep, tree)
        return None if found is None else timestep_of(found)

    def _features_in(self, tree: dict[str, Any]) -> Vector | None:
        """The numbers of a sample; None for an end marker without one."""
        assert self._features is not None
        nothing = None if self.missing == "refuse" else msgspec.UNSET  # a null may be a missing number
        found = [follow(path, tree, nothing) for path in self._features]
        if any(x is nothing for x in found):
            absent = [name for name, x in zip(self._plain.names, found, strict=False) if x is nothing]
            if len(absent) == len(found) and _marker(tree, "end_of_sequence"):
                return None
            raise BadRecord("missing_features", f"nothing at the paths of features {', '.join(absent[:10])}")
        if len(self._features) == 1 and isinstance(found[0], list):
            found = found[0]
            if len(found) != self.features:
                raise BadRecord(
                    "wrong_feature_count", f"expected a list of {self.features} numbers, received {len(found)}"
                )
        elif len(found) != self.features:
            raise BadRecord("wrong_type", f"expected a list of {self.features} numbers")
        if set(map(type, found)) == {float}:  # as a rule, and then there is nothing to convert
            return found
        return list(map(self._plain.feature, self._plain.names, found))

    def _time_in(self, tree: dict[str, Any]) -> int | None:
        """Milliseconds since 1970: a whole number of them, or a text in RFC 3339 with its zone."""
        assert self._time is not None
        found = follow(self._time, tree)
        if found is None:
            return None
        if isinstance(found, str | datetime):  # MessagePack has a type for moments
            try:
                moment = msgspec.convert(found, datetime)
            except msgspec.ValidationError:
                moment = None
            found = (moment - EPOCH) // timedelta(milliseconds=1) if moment is not None and moment.tzinfo else None
        if type(found) is not int or not 0 <= found <= LAST_MS:
            raise BadRecord(
                "wrong_type", "expected milliseconds since 1970 or a text such as 2026-01-31T12:00:00.5Z as event time"
            )
        return found


def _marker(tree: dict[str, Any], name: str) -> bool:
    found = tree.get(name)
    if found is not None and type(found) is not bool:
        raise BadRecord("wrong_type", f"expected true or false in `{name}`")
    return bool(found)
