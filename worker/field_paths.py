"""Where a value stands in an object: `$.payload.acc[0]`, `$["a name with dots."]`."""

from __future__ import annotations

import re
from typing import Any

Path = tuple[str | int, ...]

MOST_STEPS = 32
_STEP = re.compile(r'\.([^.\[\]"\s]+)|\[(\d{1,6})\]|\["([^"]+)"\]')


def is_path(text: str) -> bool:
    """Whether a text is a path rather than the name of a member."""
    return text.startswith(("$.", "$["))


def parse_path(text: str) -> Path:
    """The steps of a path: names of members and indexes of lists.

    Raises:
        ValueError: it is none.
    """
    steps: list[str | int] = []
    place = 1
    while text[:1] == "$" and place < len(text):
        step = _STEP.match(text, place)
        if step is None:
            break
        name, index, quoted = step.groups()
        steps.append(int(index) if index is not None else name or quoted)
        place = step.end()
    if not steps or place < len(text) or len(steps) > MOST_STEPS:
        raise ValueError(f'expected a path such as $.payload.acc[0] or $["odd name"].x, received {text[:80]!r}')
    return tuple(steps)


def field_path(stream_id_from: str) -> Path | None:
    """Where `stream_id_from` says that the stream ID is in a value; None when it is not in the value.

    Raises:
        ValueError: it looks like a path and is none.
    """
    kind, _, name = stream_id_from.partition(":")
    if kind != "field":
        return None
    return parse_path(name) if is_path(name) else (name,)


def timestep_path(timestep_from: str | None) -> Path | None:
    """Where `timestep_from` says that the timestep is in a value; None when it is not in the value.

    Raises:
        ValueError: it is neither a path, nor `field:NAME`, nor `header:NAME`.
    """
    if timestep_from is None or re.match("header:.", timestep_from):
        return None
    return field_path(timestep_from) if re.match("field:.", timestep_from) else parse_path(timestep_from)


def follow(path: Path, value: Any, absent: Any = None) -> Any:
    """What is at the end of a path in a decoded value; `absent` where it leads nowhere."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                return absent
        elif not isinstance(value, dict) or step not in value:
            return absent
        value = value[step]
    return value
