"""Bytes to begin with: sound ones that were damaged, and ones that were made up in the words of a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

Mutate = Callable[[bytes], bytes]
Inside = Callable[[bytes, Mutate, int], bytes]

MOST_CHARACTERS = 10_000  # what is said of an input is for a person to read, however long the input was


@dataclass(frozen=True)
class Target:
    """Bytes that are read somewhere, and the reading of them.

    Attributes:
        inputs: to begin with.
        check: raises when a law is broken.
        inside: changes an input within its wrapping, by a function that changes bytes and a number that chooses;
            None where the bytes are all there is.
    """

    inputs: st.SearchStrategy[bytes]
    check: Callable[[bytes], object]
    inside: Inside | None = None


def draw(target: Target, examples: int, number: int, take: Callable[[bytes], object]) -> None:
    """Hand over as many inputs, which a number determines.

    Args:
        target: whose.
        examples: how many.
        number: the seed.
        take: is called with each.
    """
    unhurried = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @seed(number)
    @unhurried
    @given(target.inputs)
    def law(content: bytes) -> None:
        take(content)

    law()


def damaged(good: bytes, first: int | None = None) -> st.SearchStrategy[bytes]:
    """A sound input with a few edits: bytes changed, cut out, repeated, put in, or all that follows lost.

    Args:
        good: the sound one.
        first: only of so many first bytes; None: of all.
    """
    place = st.integers(0, min(len(good), first or len(good)) - 1)
    edit = st.tuples(
        st.sampled_from(["set", "cut", "repeat", "insert", "end"]), place, st.binary(min_size=1, max_size=9)
    )
    return st.lists(edit, min_size=1, max_size=5).map(lambda edits: _edited(good, edits))


def _edited(good: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    content = good
    for kind, at, piece in edits:
        head, tail = content[:at], content[at:]
        width = len(piece)
        content = {
            "set": head + piece + tail[width:],
            "cut": head + tail[width:],
            "repeat": head + tail[:width] * 9 + tail,
            "insert": head + piece + tail,
            "end": head,
        }[kind]
    return content


def trees(names: Sequence[str]) -> st.SearchStrategy[Any]:
    """What JSON and MessagePack can say, with the names that a reader knows."""
    plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(names), inner, max_size=5),
    )


def encoded(encode: Callable[[Any], bytes], names: Sequence[str], *good: Any) -> st.SearchStrategy[bytes]:
    """Anything in a format, damaged samples in it, and any bytes at all."""
    return st.one_of(
        trees(names).map(encode), *(damaged(encode(one)) for one in good), st.binary(max_size=100)
    )  # fmt: skip


def expect_short(fault: Exception) -> None:
    """What is said of an input is for a person to read."""
    assert len(str(fault)) < MOST_CHARACTERS
