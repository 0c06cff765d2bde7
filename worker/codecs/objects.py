"""Objects that hold a vector, named features, or a chunk: what the codecs of all object formats share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.codecs.codec import MOST_TIMESTEPS, Codec, Decoded, Missing, Sample, timestep_of
from worker.codecs.formats import Decode, ObjectFormat, reason
from worker.codecs.stream_ids import stream_id
from worker.errors import BadRecord


class ObjectCodec(Codec):
    """Objects: a `features` list, the features by name, or a chunk of lists under `samples`.

    Attributes:
        format: that the objects are written in; each subclass has its own.

    Args:
        names: the artifact's feature names, in order.
        max_bytes: of a value.
        max_samples: of a chunk.
        stream_id_field: take the stream ID (text or integer) from this member; None leaves it to the key.
        missing: what a null feature becomes.
        timesteps: hand over the producer's own count.
    """

    format: ClassVar[ObjectFormat]

    def __init__(
        self,
        names: Sequence[str],
        max_bytes: int,
        max_samples: int,
        stream_id_field: str | None = None,
        missing: Missing = "refuse",
        timesteps: bool = False,
    ) -> None:
        super().__init__(len(names), max_bytes, max_samples, missing, timesteps)
        self.names = tuple(names)
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

        def decoder(name: str, *fields: Any, other: str = "") -> Decode:
            names = {**rename, "other_": other}
            return self.format.decoder(
                msgspec.defstruct(name, [*fields, *common], rename=names, kw_only=True, gc=False)
            )

        # Each form, with the member that only another one has: where that is there, the value is looked at alone.
        absent = ("other_", Any, None)
        self._positional = decoder("Positional", ("features", vector), absent, other="samples")
        self._chunk = decoder("Chunk", ("samples", list[vector]), absent, other="features")  # type: ignore[valid-type]
        self._named = decoder(
            "Named", *((a, self._number) for a in attributes), ("features", Any, None), absent, other="samples"
        )
        self._forms = [self._positional, self._named, self._chunk]  # the last poll's first
        self._any = decoder(
            "AnyForm",
            ("features", vector | None, None),
            ("samples", list[vector] | None, None),  # type: ignore[valid-type]
            *((a, Any, msgspec.UNSET) for a in attributes),  # of no concern where the features come in a list
        )
        self._vector_of_named = attrgetter(*attributes) if len(names) > 1 else lambda s: (getattr(s, attributes[0]),)

    def bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, where all have the same form."""
        if sum(map(len, values)) > self.max_bytes and max(map(len, values)) > self.max_bytes:
            return None
        for form in self._forms:
            try:
                samples = list(map(form, values))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            break
        else:
            return None
        self._forms.sort(key=lambda one: one is not form)
        starts, ends = [], []
        for i, sample in enumerate(samples):  # a plain loop: generators and comprehensions took longer
            if sample.other_ is not None:
                return None
            if sample.end_of_sequence:
                ends.append(i)
            if sample.start_of_sequence:
                starts.append(i)
        arranged = self._arranged(form, samples)
        if arranged is None:
            return None
        vectors, counts = arranged
        timesteps = None
        if self.timesteps:
            timesteps = [sample.timestep for sample in samples]
            known = [timestep for timestep in timesteps if timestep is not None]
            if known and not 0 <= min(known) <= max(known) < MOST_TIMESTEPS:
                return None
        return Decoded(
            self.array(vectors, int(counts.sum())),
            counts,
            starts,
            ends,
            stream_ids=[stream_id(sample.stream_id_) for sample in samples] if self._has_stream_id else None,
            timesteps=timesteps,
        )

    def _arranged(
        self, form: Decode, samples: Sequence[Any]
    ) -> tuple[Iterable[tuple[float, ...]], NDArray[np.int64]] | None:
        """The vectors of values of one form, and how many each has; None where one must be looked at alone."""
        counts = np.ones(len(samples), np.int64)
        if form is self._positional:
            return [sample.features for sample in samples], counts
        if form is self._named:
            if any(sample.features is not None for sample in samples):
                return None
            return map(self._vector_of_named, samples), counts
        counts = np.array([len(sample.samples) for sample in samples], np.int64)
        if not counts.all() or counts.max() > self.max_samples:
            return None
        return chain.from_iterable(sample.samples for sample in samples), counts

    def one(self, value: bytes) -> Sample:
        """One value, whatever it is."""
        sample = self.format.read(self._any, value)
        vectors = self._vectors(sample)
        return Sample(
            self.array(vectors, len(vectors)),
            bool(sample.start_of_sequence),
            bool(sample.end_of_sequence),
            stream_id(sample.stream_id_) if self._has_stream_id else None,
            timestep=timestep_of(sample.timestep) if self.timesteps and sample.timestep is not None else None,
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
