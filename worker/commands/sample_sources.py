"""Samples to publish: NDJSON lines, CSV rows, or a bundled set of sequences.

A source yields `Sample`s, and a `BadLine` for each line that is none: one broken line says where it is and does
not stop the rest. Bundled sets come through the entry point group `cellstream.datasets`: a function that takes
`seed` and `share` of what is held out, or neither, and returns an object with `inputs` (arrays
`(timesteps, features)`) and `stream_ids`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import orjson

from worker.errors import UsageError
from worker.records import END_HEADER, MAX_STREAM_ID_BYTES, START_HEADER

MAX_LINE_BYTES = 16 * 2**20
MARKERS = ("end_of_sequence", "start_of_sequence")
_TRUE, _FALSE = {"1", "true", "yes"}, {"", "0", "false", "no"}

Headers = list[tuple[str, bytes]]
Encoder = Callable[[dict[str, Any]], tuple[bytes, Headers | None]]


class Sample(NamedTuple):
    """A record to send; `timestamp_ms` None leaves it to the clock."""

    key: bytes
    value: bytes
    headers: Headers | None
    timestamp_ms: int | None


class BadLine(NamedTuple):
    """A line that is no sample: its number, counted from 1, and what was wrong."""

    line: int
    message: str


class Fields(NamedTuple):
    """Which fields of a line are not the sample's own."""

    stream_id: str = "stream_id"
    timestamp: str | None = None


def encode_json(fields: dict[str, Any]) -> tuple[bytes, Headers | None]:
    """The `json` codec: the fields as they are, markers included."""
    return orjson.dumps(fields), None


def encode_msgpack(fields: dict[str, Any]) -> tuple[bytes, Headers | None]:
    """The `msgpack` codec: the fields as they are, markers included."""
    return msgspec.msgpack.encode(fields), None


def encode_float32(fields: dict[str, Any]) -> tuple[bytes, Headers | None]:
    """The `float32` codec: `features`, or a chunk under `samples`, as little-endian vectors; markers become headers.

    Raises:
        ValueError: there is neither, or something in it is not a number.
    """
    vectors = fields.get("samples") or fields.get("features")
    if vectors is None:
        raise ValueError("expected `features` or `samples`, which the float32 codec needs")
    try:
        value = np.asarray(vectors, "<f4").tobytes()
    except TypeError:
        raise ValueError("expected numbers in `features` or `samples`") from None
    headers = [(END_HEADER, b"")] if fields.get("end_of_sequence") else []
    if fields.get("start_of_sequence"):
        headers.append((START_HEADER, b""))
    return value, headers or None


def read_ndjson(file: BinaryIO, fields: Fields, encode: Encoder) -> Iterator[Sample | BadLine]:
    """One JSON object a line; empty lines are skipped."""
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            if len(line) >= MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            sample = orjson.loads(line)
            if not isinstance(sample, dict):
                raise ValueError("expected a JSON object")
            yield _sample(sample, fields, encode)
        except (ValueError, TypeError) as fault:
            yield BadLine(number, str(fault))


def read_csv(
    file: BinaryIO, fields: Fields, encode: Encoder, features: Sequence[str] | None
) -> Iterator[Sample | BadLine]:
    """A header line, then one sample a row.

    Args:
        file: UTF-8, with or without a byte order mark.
        fields: the columns of stream ID and timestamp.
        encode: of the input codec.
        features: columns of the features, in order; None takes every column that has no other meaning.

    Raises:
        UsageError: the header lacks a column that is needed.
    """
    rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=""))
    header = next(rows, [])
    plain = {fields.stream_id, fields.timestamp, "timestep", *MARKERS}
    names = [name for name in header if name not in plain] if features is None else list(features)
    missing = [name for name in (fields.stream_id, fields.timestamp, *names) if name and name not in header]
    if missing or len(set(header)) < len(header):
        named = ", ".join(missing) or "twice the same one"
        raise UsageError(f"line 1: expected a header of different columns with {named}; received {header[:20]}")
    while True:
        try:
            row = next(rows)
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(f"expected {len(header)} columns, received {len(row)}")
            texts = dict(zip(header, row, strict=True))
            numbers = {name: _number(name, texts[name]) for name in names}
            # A name finds its place in any artifact; a raw vector has only the order of the columns.
            features_of_row = numbers if encode is not encode_float32 else {"features": list(numbers.values())}
            yield _sample({**features_of_row, **_plain(texts, fields)}, fields, encode)
        except StopIteration:
            return
        except (ValueError, csv.Error) as fault:
            yield BadLine(rows.line_num, str(fault))


def read_sequences(
    stream_ids: Iterable[str], inputs: Iterable[np.ndarray[Any, Any]], encode: Encoder
) -> Iterator[Sample]:
    """Sequences as concurrent streams: one sample of each in turn; the last one carries the end-of-sequence marker."""
    streams = [
        [{"features": vector} for vector in np.asarray(sequence).tolist()] for sequence in inputs if len(sequence)
    ]
    for samples in streams:
        samples[-1]["end_of_sequence"] = True
    keys = [stream_id.encode() for stream_id in stream_ids]
    for moment in zip_longest(*streams):
        for key, sample in zip(keys, moment, strict=True):
            if sample is not None:
                yield Sample(key, *encode(sample), None)


def _sample(sample: dict[str, Any], fields: Fields, encode: Encoder) -> Sample:
    """Split a line's fields into the record's parts."""
    stream_id = sample.pop(fields.stream_id, None)
    if isinstance(stream_id, bool) or not isinstance(stream_id, str | int):
        raise ValueError(f"expected {fields.stream_id!r}, a text or a whole number")
    key = str(stream_id).encode()
    if not 1 <= len(key) <= MAX_STREAM_ID_BYTES:
        raise ValueError(f"expected 1 to {MAX_STREAM_ID_BYTES} bytes in {fields.stream_id!r}, received {len(key)}")
    timestamp = sample.pop(fields.timestamp, None) if fields.timestamp else None
    if timestamp is not None and not (type(timestamp) is int and 0 <= timestamp < 2**63):
        raise ValueError(f"expected milliseconds since 1970 in {fields.timestamp!r}, a whole number")
    if not sample:
        raise ValueError(f"expected a sample beside {fields.stream_id!r}")
    return Sample(key, *encode(sample), timestamp)


def _plain(texts: Mapping[str, str], fields: Fields) -> dict[str, Any]:
    """The columns of a row that are no features, typed."""
    plain: dict[str, Any] = {fields.stream_id: texts[fields.stream_id]}
    for name in filter(None, ("timestep", fields.timestamp)):
        if texts.get(name, ""):
            plain[name] = int(texts[name])
    for marker in MARKERS:
        text = texts.get(marker, "").strip().lower()
        if text not in _TRUE | _FALSE:
            raise ValueError(f"expected true or false in {marker!r}, received {text[:40]!r}")
        if text in _TRUE:
            plain[marker] = True
    return plain


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise ValueError(f"expected a number in {name!r}, received {text[:40]!r}")
    return number


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines, each cut at MAX_LINE_BYTES."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line
        while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)  # the rest of a line that is refused
