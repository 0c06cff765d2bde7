"""Changes of what a value says, where changed bytes would only make it malformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.security.fuzz.making import Inside, Mutate

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, 1e39, -1e308, float("nan")),
    *("", "x", "\0", "x" * 300, "1", [], [[]], [0] * 30, {}, {"": None}),
)
OFTEN = 0.8


def within(load: Callable[[bytes], Any], dump: Callable[[Any], bytes], names: Sequence[str]) -> Inside:
    """What changes values of a format from within, for `Target.inside`.

    Args:
        load: raises a ValueError for what is none.
        dump: its reverse.
        names: of members.
    """

    def inside(content: bytes, mutate: Mutate, number: int) -> bytes:
        random = Random(number)
        try:
            tree = load(content) if random.random() < OFTEN else None
            if tree is None:
                return mutate(content)
            for _ in range(random.randint(1, 3)):
                tree = _changed(tree, random, names)
            return dump(tree)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return mutate(content)

    return inside


def _changed(tree: Any, random: Random, names: Sequence[str]) -> Any:
    """The tree with one place of it changed."""
    if isinstance(tree, list) and tree and random.random() < OFTEN:
        at = random.randrange(len(tree))
        kind = random.randrange(4)
        kept = [[], [tree[at]] * 2][kind] if kind < 2 else [_changed(tree[at], random, names)]
        return [*tree[:at], *kept, *tree[at + 1 :]]
    if isinstance(tree, dict) and tree and random.random() < OFTEN:
        name, other = random.choice(list(tree)), random.choice(names)
        rest = {key: value for key, value in tree.items() if key != name}
        kind = random.randrange(5)
        if kind < 3:
            return [rest, rest | {other: tree[name]}, tree | {other: tree}][kind]
        return rest | {name: _changed(tree[name], random, names)}
    return random.choice(ODD) if random.random() < OFTEN else {random.choice(names): tree}
