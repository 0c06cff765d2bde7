"""Address space that takes memory only where it is written, and gives it back without stopping other threads."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worker.errors import FatalFault


def reserve(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros of a shape; the system backs a page when it is first written.

    Raises:
        FatalFault: the system has no address space for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        space = mmap.mmap(-1, max(size, 1), flags=flags)
    except OSError as fault:
        raise FatalFault(
            f"no address space for a partition's states ({size / 2**30:.1f} GiB): {fault}; lower "
            "max_streams_per_partition, or lift the process's limit of virtual memory"
        ) from None
    return np.frombuffer(space, dtype, math.prod(shape)).reshape(shape)
