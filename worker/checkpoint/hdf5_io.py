"""The two file objects that stand between h5py and a checkpoint file.

h5py ignores how many bytes `readinto` and `write` say they moved, and HDF5 cannot close a file whose last writes
fail. Both are answered here: all bytes are moved, and a writer's fault is kept until HDF5 has closed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO


class WholeFile(io.RawIOBase):
    """A file that gives all the bytes it is asked for, or an OSError when it is too short."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; returns the new position."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        return move_all(buffer, self.file.readinto)  # type: ignore[attr-defined]


class UnfailingFile(WholeFile):
    """A file that holds back its faults until HDF5 has closed.

    When a write fails, HDF5 cannot close the file and keeps it open, with its memory, for the rest of the
    process, and h5py reports something else. So HDF5 is told that all went well, and `fault` says what happened.
    """

    fault: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, buffer: Any) -> int:
        """Write all of a buffer, or note the fault."""
        try:
            if self.fault is None:
                move_all(buffer, self.file.write)
        except OSError as fault:
            self.fault = fault
        return len(buffer)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or note the fault."""
        try:
            if self.fault is None:
                self.file.truncate(size)
        except OSError as fault:
            self.fault = fault
        return size or 0

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or note the fault and leave it as it is."""
        try:
            return super().readinto(buffer)
        except OSError as fault:
            self.fault = self.fault or fault
            return len(buffer)


def move_all(buffer: Any, move: Callable[[memoryview], int | None]) -> int:
    """Call `move`, which may read or write less than it was given, until the whole buffer is done."""
    left = memoryview(buffer).cast("B")
    length = len(left)
    while left:
        moved = move(left)
        if not moved:
            raise OSError(f"the file ends {len(left)} bytes too early")
        left = left[moved:]
    return length
