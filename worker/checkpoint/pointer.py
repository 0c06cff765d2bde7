"""The pointer of a partition: one small object that names its checkpoints, and is put after them.

JSON: {"format": 1, "writer": who put it, "put": which of all puts, "checkpoints": {file name: size in bytes}}

In no format may it say more of a checkpoint than the names of the files tell: then a listing can take the place of a
pointer that cannot be read, and a worker that does not know a pointer's format may put one of its own there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

NAME = "newest.json"
FORMAT = 1
MAX_BYTES = 1024 * 1024

# <next_offset>-<SHA-256 of the file>: so names can be compared, and tell what a listing must know.
CHECKPOINT_NAME = re.compile(r"(\d{20})-([0-9a-f]{64})\.h5")


@dataclass(frozen=True)
class Pointer:
    """What a partition's pointer says.

    Attributes:
        writer: the process that put it.
        put: different for every put.
        files: size in bytes by name.
    """

    writer: str
    put: str
    files: Mapping[str, int]

    @classmethod
    def by(cls, writer: str, files: Mapping[str, int]) -> Pointer:
        """A new one."""
        return cls(writer, uuid4().hex, dict(sorted(files.items())))

    @classmethod
    def of_listing(cls, files: Mapping[str, int]) -> Pointer:
        """What stands in for a pointer that is missing or damaged."""
        return cls("", "", {name: size for name, size in files.items() if CHECKPOINT_NAME.fullmatch(name)})

    @property
    def newest_offset(self) -> int:
        """The highest `next_offset` of a file; -1 when there is none."""
        return max(map(offset_of, self.files), default=-1)

    def encode(self) -> bytes:
        """As it is stored."""
        stored = {"format": FORMAT, "writer": self.writer, "put": self.put, "checkpoints": dict(self.files)}
        return json.dumps(stored, indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> Pointer | None:
        """What is stored; None when it is damaged, or of a newer format (`problem` tells which)."""
        try:
            stored: Any = json.loads(content)
            files = stored["checkpoints"]
            fits = stored["format"] == FORMAT and all(
                CHECKPOINT_NAME.fullmatch(name) and type(size) is int and size >= 0 for name, size in files.items()
            )
            return cls(str(stored["writer"]), str(stored["put"]), dict(files)) if fits else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def problem(content: bytes) -> str:
    """Why a stored pointer cannot be decoded."""
    try:
        found = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "damaged"
    return f"of format {str(found)[:20]}, this cellstream reads {FORMAT}" if found != FORMAT else "damaged"


def offset_of(name: str) -> int:
    """The `next_offset` in a checkpoint's name."""
    return int(name[:20])
