"""Whole numbers in as few bytes as they need, as Avro and Protobuf write them: seven bits a byte, the lowest first."""

from __future__ import annotations

MOST_BYTES = 10  # of 64 bits


def varint(number: int) -> bytes:
    """A number; one below 0 as its 64 bits in two's complement."""
    rest = number & 0xFFFF_FFFF_FFFF_FFFF
    if rest < 0x80:
        return bytes((rest,))
    found = bytearray()
    while rest >= 0x80:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def zigzag(number: int) -> bytes:
    """A number whose sign is its lowest bit: 0, -1, 1, -2, ..."""
    return varint((number << 1) ^ (number >> 63))


def read_zigzag(value: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it.

    Raises:
        ValueError: there is none.
    """
    found = 0
    for i, byte in enumerate(value[place : place + MOST_BYTES]):
        found |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return (found >> 1) ^ -(found & 1), place + i + 1
    raise ValueError("a number is cut off")
