"""Objects that hold a vector, named features, or a chunk: what the codecs of all object formats share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.codecs.codec import Codec, Decoded, Missing, Sample
from worker.codecs.formats import Decode, ObjectFormat, reason
from worker.codecs.stream_ids import stream_id
from worker.errors import BadRecord


class ObjectCodec(Codec):
    """Objects: a `features` list, the features by name, or a chunk of lists under `samples`.

    Args:
        format: that the objects are written in.
        names: the artifact's feature names, in order.
        max_bytes: of a value.
        max_samples: of a chunk.
        stream_id_field: take the stream ID (text or integer) from this member; None leaves it to the key.
        missing: what a null feature becomes.
    """

    def __init__(
        self,
        format: ObjectFormat,
        names: Sequence[str],
        max_bytes: int,
        max_samples: int,
        stream_id_field: str | None = None,
        missing: Missing = "refuse",
    ) -> None:
        super().__init__(len(names), max_bytes, max_samples, missing)
        self.names = tuple(names)
        self.format = format
        self._number: Any = float if missing == "refuse" else float | None
        vector = tuple.__class_getitem__((self._number,) * len(names))
        attributes = [f"feature_{i}_" for i in range(len(names))]
        rename = dict(zip(attributes, names, strict=True))
        common: list[Any] = [
            ("timestep", int | None, None),
            ("end_of_sequence", bool | None, None),
            ("start_of_sequence", bool | None, None),
        ]
        if stream_id_field is not None:
            common.append(("stream_id_", str | int | None, None))
            rename["stream_id_"] = stream_id_field
        self._has_stream_id = stream_id_field is not None

        def decoder(name: str, *fields: Any) -> Decode:
            return format.decoder(msgspec.defstruct(name, [*fields, *common], rename=rename, kw_only=True, gc=False))

        self._positional = decoder("Positional", ("features", vector), ("samples", Any, None))
        self._named = decoder(
            "Named", *((a, self._number) for a in attributes), ("samples", Any, None), ("features", Any, None)
        )
        self._any = decoder(
            "AnyForm",
            ("features", vector | None, None),
            ("samples", list[vector] | None, None),  # type: ignore[valid-type]
            *((a, Any, msgspec.UNSET) for a in attributes),  # of no concern where the features come in a list
        )
        self._vector_of_named = attrgetter(*attributes) if len(names) > 1 else lambda s: (getattr(s, attributes[0]),)
        self._prefers_names = False

    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, where each is one sample."""
        if sum(map(len, values)) > self.max_bytes and max(map(len, values)) > self.max_bytes:
            return None
        for prefers_names in (self._prefers_names, not self._prefers_names):
            decode = self._named if prefers_names else self._positional
            try:
                samples = list(map(decode, values))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            self._prefers_names = prefers_names
            break
        else:
            return None
        starts, ends = [], []
        for i, sample in enumerate(samples):  # a plain loop: generators and comprehensions took longer
            if sample.samples is not None:
                return None
            if sample.end_of_sequence:
                ends.append(i)
            if sample.start_of_sequence:
                starts.append(i)
        if not prefers_names:
            vectors: Iterable[tuple[float, ...]] = [sample.features for sample in samples]
        elif all(sample.features is None for sample in samples):
            vectors = map(self._vector_of_named, samples)
        else:
            return None
        return Decoded(
            self.array(vectors, len(samples)),
            np.ones(len(samples), np.int64),
            starts,
            ends,
            stream_ids=[stream_id(sample.stream_id_) for sample in samples] if self._has_stream_id else None,
        )

    def one(self, value: bytes) -> Sample:
        """One value, whatever it is."""
        sample = self.format.read(self._any, value)
        vectors = self._vectors(sample)
        return Sample(
            self.array(vectors, len(vectors)),
            bool(sample.start_of_sequence),
            bool(sample.end_of_sequence),
            stream_id(sample.stream_id_) if self._has_stream_id else None,
        )

    def _vectors(self, sample: Any) -> list[tuple[float, ...]]:
        """The samples of a value in whichever form it has; an end marker may come without any."""
        if sample.samples is not None:
            if sample.features is not None:
                raise BadRecord("ambiguous", "expected `features` or `samples`, received both")
            if not sample.samples and not sample.end_of_sequence:
                raise BadRecord("missing_features", "expected at least one sample in `samples`, received none")
            return list(sample.samples)
        if sample.features is not None:
            return [sample.features]
        vector = self._vector_of_named(sample)
        nothing = (msgspec.UNSET, None) if self.missing == "refuse" else (msgspec.UNSET,)
        missing = [name for name, x in zip(self.names, vector, strict=True) if x in nothing]
        if not missing:
            return [tuple(map(self.feature, self.names, vector))]
        if sample.end_of_sequence and len(missing) == len(self.names):
            return []
        raise BadRecord(
            "missing_features",
            f"expected `features` ({self.features} numbers) or features by name; missing: {', '.join(missing[:10])}",
        )

    def array(self, vectors: Iterable[Iterable[float]], count: int) -> NDArray[np.float32]:
        """Vectors as rows, `(count, features)` float32; numbers that float32 cannot hold are infinite."""
        flat = chain.from_iterable(vectors)
        with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite and is refused; None becomes NaN
            return np.fromiter(flat, np.float32, count * self.features).reshape(count, self.features)

    def feature(self, name: str, value: Any) -> float:
        """A number that stood somewhere in a value; None where it is missing and may be.

        Raises:
            BadRecord: it is none.
        """
        try:
            return msgspec.convert(value, self._number)
        except msgspec.ValidationError as fault:
            raise BadRecord(reason(fault), f"{fault} - at `$.{name}`") from None
