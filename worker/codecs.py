"""Sample values to arrays: one codec per wire format, in bulk where the poll allows it.

A codec takes the values of a poll and returns arrays; whatever it cannot read it returns as `BadRecord`, by
position. The usual poll holds one plain sample a record and is decoded in bulk; as soon as one value is anything
else, each is looked at alone. Both roads give the same arrays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from worker.errors import BadRecord

RESERVED = ("features", "samples", "timestep", "end_of_sequence", "start_of_sequence")


@dataclass(slots=True)
class Decoded:
    """The samples of a poll.

    Attributes:
        inputs: `(samples, features)` float32, finite, in record order.
        counts: `(records,)` int64, samples of each record; 0 for tombstones and bad ones.
        starts: records whose first sample begins a sequence by their own word.
        ends: records after which their stream's sequence is over by their own word.
        bad: what could not be read, by record.
        stream_ids: taken from the values, where a codec was told to; else None.
    """

    inputs: NDArray[np.float32]
    counts: NDArray[np.int64]
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    bad: dict[int, BadRecord] = field(default_factory=dict)
    stream_ids: list[bytes | None] | None = None


@dataclass(slots=True)
class Sample:
    """One decoded value: `inputs` is `(samples, features)` float32, perhaps none at all."""

    inputs: NDArray[np.float32]
    start: bool = False
    end: bool = False
    stream_id: bytes | None = None


class Codec(ABC):
    """Decode the values of a poll; tombstones and limits are the same for every wire format."""

    def __init__(self, features: int, max_bytes: int, max_samples: int) -> None:
        self.features = features
        self.max_bytes = max_bytes
        self.max_samples = max_samples

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode a poll's values; never raises for what they hold."""
        if values and None not in values:
            decoded = self._bulk(values)  # type: ignore[arg-type]
            if decoded is not None and np.isfinite(decoded.inputs).all():
                return decoded
        return self._one_by_one(values)

    @abstractmethod
    def _bulk(self, values: Sequence[bytes]) -> Decoded | None:
        """All values at once, or None when any needs to be looked at alone. None of them is a tombstone."""

    @abstractmethod
    def _one(self, value: bytes) -> Sample:
        """One value of at most `max_bytes`.

        Raises:
            BadRecord: it is not a sample.
        """

    def _one_by_one(self, values: Sequence[bytes | None]) -> Decoded:
        pieces: list[NDArray[np.float32]] = []
        decoded = Decoded(np.empty((0, self.features), np.float32), np.zeros(len(values), np.int64))
        ids: list[bytes | None] = [None] * len(values)
        for position, value in enumerate(values):
            if value is None:
                continue
            try:
                sample = self._checked(value)
            except BadRecord as fault:
                decoded.bad[position] = fault
                continue
            ids[position] = sample.stream_id
            decoded.counts[position] = len(sample.inputs)
            pieces.append(sample.inputs)
            if sample.start:
                decoded.starts.append(position)
            if sample.end:
                decoded.ends.append(position)
        if pieces:
            decoded.inputs = np.concatenate(pieces)
        if any(stream_id is not None for stream_id in ids):
            decoded.stream_ids = ids
        return decoded

    def _checked(self, value: bytes) -> Sample:
        if len(value) > self.max_bytes:
            raise BadRecord("oversized_value", f"expected at most {self.max_bytes} bytes, received {len(value)}")
        sample = self._one(value)
        if len(sample.inputs) > self.max_samples:
            raise BadRecord(
                "oversized_chunk", f"expected at most {self.max_samples} samples, received {len(sample.inputs)}"
            )
        if not np.isfinite(sample.inputs).all():
            row, column = np.argwhere(~np.isfinite(sample.inputs))[0]
            raise BadRecord("not_finite", f"sample {row}, feature {column}: not a finite float32 number")
        return sample


class Float32Codec(Codec):
    """The raw little-endian vector; several in a row are a chunk."""

    def _bulk(self, values: Sequence[bytes]) -> Decoded | None:
        width = 4 * self.features
        if set(map(len, values)) != {width} or width > self.max_bytes:
            return None
        inputs = np.frombuffer(b"".join(values), "<f4").reshape(len(values), self.features)
        return Decoded(inputs.astype(np.float32, copy=False), np.ones(len(values), np.int64))

    def _one(self, value: bytes) -> Sample:
        width = 4 * self.features
        if not value or len(value) % width:
            raise BadRecord(
                "wrong_size", f"expected {width} bytes ({self.features} float32) or a multiple, received {len(value)}"
            )
        return Sample(np.frombuffer(value, "<f4").reshape(-1, self.features).astype(np.float32, copy=False))


class JsonCodec(Codec):
    """JSON objects: a `features` list, the features by name, or a chunk of lists under `samples`.

    Args:
        names: the artifact's feature names, in order.
        stream_id_field: take the stream ID (text or integer) from this member; None leaves it to the key.
    """

    def __init__(
        self, names: Sequence[str], max_bytes: int, max_samples: int, stream_id_field: str | None = None
    ) -> None:
        super().__init__(len(names), max_bytes, max_samples)
        self.names = tuple(names)
        vector = tuple.__class_getitem__((float,) * len(names))
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

        def decoder(name: str, *fields: Any) -> msgspec.json.Decoder[Any]:
            struct = msgspec.defstruct(name, [*fields, *common], rename=rename, kw_only=True, gc=False)
            return msgspec.json.Decoder(struct)

        self._positional = decoder("Positional", ("features", vector), ("samples", Any, None))
        self._named = decoder(
            "Named", *((a, float) for a in attributes), ("samples", Any, None), ("features", Any, None)
        )
        self._any = decoder(
            "AnyForm",
            ("features", vector | None, None),
            ("samples", list[vector] | None, None),  # type: ignore[valid-type]
            *((a, Any, None) for a in attributes),  # of no concern where the features come in a list
        )
        self._vector_of_named = attrgetter(*attributes) if len(names) > 1 else lambda s: (getattr(s, attributes[0]),)
        self._prefers_names = False

    def _bulk(self, values: Sequence[bytes]) -> Decoded | None:
        if sum(map(len, values)) > self.max_bytes and max(map(len, values)) > self.max_bytes:
            return None
        for prefers_names in (self._prefers_names, not self._prefers_names):
            decode = (self._named if prefers_names else self._positional).decode
            try:
                samples = list(map(decode, values))
            except (msgspec.DecodeError, RecursionError):
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
            self._array(vectors, len(samples)),
            np.ones(len(samples), np.int64),
            starts,
            ends,
            stream_ids=[_stream_id(sample) for sample in samples] if self._has_stream_id else None,
        )

    def _one(self, value: bytes) -> Sample:
        try:
            sample = self._any.decode(value)
        except msgspec.ValidationError as fault:
            raise BadRecord(_reason(str(fault)), str(fault)) from None
        except msgspec.DecodeError as fault:
            raise BadRecord("not_json", str(fault)) from None
        except RecursionError:
            raise BadRecord("too_deep", "JSON nested too deeply") from None
        vectors = self._vectors(sample)
        return Sample(
            self._array(vectors, len(vectors)),
            bool(sample.start_of_sequence),
            bool(sample.end_of_sequence),
            _stream_id(sample) if self._has_stream_id else None,
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
        missing = [name for name, x in zip(self.names, vector, strict=True) if x is None]
        if not missing:
            return [tuple(map(_number, self.names, vector))]
        if sample.end_of_sequence and len(missing) == len(self.names):
            return []
        raise BadRecord(
            "missing_features",
            f"expected `features` ({self.features} numbers) or features by name; missing: {', '.join(missing[:10])}",
        )

    def _array(self, vectors: Iterable[tuple[float, ...]], count: int) -> NDArray[np.float32]:
        flat = chain.from_iterable(vectors)
        with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite and is refused
            return np.fromiter(flat, np.float32, count * self.features).reshape(count, self.features)


def _number(name: str, value: Any) -> float:
    try:
        return msgspec.convert(value, float)
    except msgspec.ValidationError as fault:
        raise BadRecord(_reason(str(fault)), f"{fault} - at `$.{name}`") from None


def _stream_id(sample: Any) -> bytes | None:
    return None if sample.stream_id_ is None else str(sample.stream_id_).encode("utf-8", "surrogatepass")


def _reason(message: str) -> str:
    """The metric label of a validation error of msgspec."""
    if "of length" in message:
        return "wrong_feature_count"
    return "not_finite" if "out of range" in message else "wrong_type"
