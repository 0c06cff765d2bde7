"""Probability events and closing events in MessagePack: the fields of the JSON events, in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from worker.encoding.encoder import Answers, Encoder
from worker.state.sequences import REASONS, Closing, sequence_id

NIL = b"\xc0"
FLOAT32 = 0xCA
PAIR = b"\x92"

_pack = msgspec.msgpack.Encoder().encode
EVENT, CLOSING_EVENT = (size + _pack("stream_id") for size in (b"\x87", b"\x88"))  # maps of 7 and of 8 fields


class MsgpackEncoder(Encoder):
    """Write events in MessagePack; numbers are float32 as the model gave them, null where it gave none.

    Args:
        classes: one name for a single probability, or one for each column of the output.
        model: the short artifact digest that every event names.
        decisions: names of what the artifact's rule can decide; none where it has no rule.
    """

    def __init__(self, classes: Sequence[str], model: str, decisions: Sequence[str] = ()) -> None:
        super().__init__(decisions)
        self._columns = len(classes)
        if self._columns == 1:
            numbers = _pack("probability") + b"%b"
        else:
            names = b"".join(_escaped(_pack(name)) + b"%b" for name in classes)
            numbers = _pack("probabilities") + _escaped(_map_header(self._columns)) + names
        self._last = _pack("model") + _pack(model)
        self._template = b"".join(
            (EVENT, b"%b", _pack("timestep"), b"%b", numbers, _pack("timestamp"), b"%b", _pack("source"), PAIR, b"%b%b",
             _escaped(self._last))
        )  # fmt: skip

    def prefix(self, stream_id: bytes, partition: int, start: int, start_sample: int) -> bytes:
        """The part of an event that is the same for a whole sequence."""
        sequence = sequence_id(partition, start, start_sample).decode()
        return _pack(stream_id.decode()) + _pack("sequence") + _pack(sequence)

    def encode(self, answers: Answers) -> list[bytes]:
        """One event for each prefix."""
        numbers = _numbers(answers.outputs)
        columns = [numbers[i :: self._columns] for i in range(self._columns)]
        if answers.counts is not None:
            bounds = answers.bounds()
            columns = [[_list_header(j - i) + b"".join(column[i:j]) for i, j in bounds] for column in columns]
        timesteps, here = map(_pack, answers.timesteps.tolist()), repeat(_pack(answers.partition))
        times, offsets = map(_pack, answers.times), map(_pack, answers.offsets)
        rows = zip(answers.prefixes, timesteps, *columns, times, here, offsets, strict=False)
        return list(map(self._template.__mod__, rows))

    def decided(self, event: bytes, number: int, timestep: int | None = None) -> bytes:
        """An event with what was decided at it; see `Encoder.decided`."""
        fields: dict[str, Any] = {"decision": self.decisions[number]}
        if timestep is not None:
            fields["decision_timestep"] = timestep
        header = bytes([event[0] + len(fields)])
        return b"".join((header, event[1:], *(_pack(k) + _pack(v) for k, v in fields.items())))

    def closing(self, partition: int, closing: Closing, time: int, offset: int) -> bytes:
        """The event that says that a sequence is over."""
        prefix = self.prefix(closing.stream_id, partition, closing.start, closing.start_sample)
        fields = {"end_of_sequence": True, "reason": REASONS[closing.reason], "length": int(closing.length)}
        placed = {**fields, "timestamp": int(time), "source": [partition, int(offset)]}
        return CLOSING_EVENT + prefix + b"".join(_pack(k) + _pack(v) for k, v in placed.items()) + self._last


def json_of(value: bytes | None) -> bytes:
    """An event as the JSON codec would have written it; what is no event as something that is none there, either."""
    try:
        event: dict[str, Any] = msgspec.msgpack.decode(value or b"", type=dict)
        for name in ("probability", "probabilities"):
            found = event.get(name)
            if isinstance(found, dict):
                event[name] = {key: _shortest(number) for key, number in found.items()}
            elif found is not None:
                event[name] = _shortest(found)
        return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)
    except (ValueError, TypeError, RecursionError):
        return b""


def _shortest(number: Any) -> Any:
    if isinstance(number, list):
        return [_shortest(one) for one in number]
    return np.float32(number) if isinstance(number, float) else number


def _numbers(outputs: NDArray[np.float32]) -> list[bytes]:
    flat = outputs.ravel()
    packed = np.empty((len(flat), 5), np.uint8)
    packed[:, 0] = FLOAT32
    packed[:, 1:] = flat.astype(">f4").view(np.uint8).reshape(-1, 4)
    whole = packed.tobytes()
    numbers = [whole[i : i + 5] for i in range(0, len(whole), 5)]
    for i in np.flatnonzero(~np.isfinite(flat)).tolist():
        numbers[i] = NIL
    return numbers


def _map_header(fields: int) -> bytes:
    return bytes([0x80 | fields]) if fields < 16 else b"\xde" + fields.to_bytes(2, "big")


def _list_header(length: int) -> bytes:
    if length < 16:
        return bytes([0x90 | length])
    return b"\xdc" + length.to_bytes(2, "big") if length < 65_536 else b"\xdd" + length.to_bytes(4, "big")


def _escaped(packed: bytes) -> bytes:
    """Bytes that stand in a `%` template."""
    return packed.replace(b"%", b"%%")
