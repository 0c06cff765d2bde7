"""The weights of a model file, looked at before Keras reads them.

HDF5 can take data from other files of this machine, link to them, and claim shapes that no memory holds. A file that
Keras wrote does none of that: groups and plain datasets, each byte of them in the file itself.
"""

from __future__ import annotations

import io
from math import prod
from typing import Any

import h5py

from worker.errors import ArtifactRefused

MAX_OBJECTS = 100_000
MAX_DEPTH = 100

# What h5py raises, depending on which of its layers notices a malformed file.
_HDF5_FAULTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


def verify_weights(content: bytes, name: str) -> None:
    """Refuse weights that are not plain.

    Args:
        content: of `model.weights.h5`.
        name: what to call the model's file in a message.

    Raises:
        ArtifactRefused: no HDF5, a link, data outside of the file, a filter, or more data than the file has.
    """
    try:
        with h5py.File(io.BytesIO(content), "r") as h5:
            _Walk(len(content)).group(h5, 0)
    except ArtifactRefused as fault:
        raise ArtifactRefused(f"{name}: model.weights.h5: {fault}") from None
    except _HDF5_FAULTS as fault:
        raise ArtifactRefused(f"{name}: model.weights.h5 cannot be read: {type(fault).__name__}") from None


class _Walk:
    """A way through all objects of a file of `size` bytes, each of which is counted."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.objects = 0
        self.claimed = 0

    def group(self, group: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ArtifactRefused(f"nested deeper than {MAX_DEPTH} groups, or in a circle")
        for name in group:
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise ArtifactRefused(f"more than {MAX_OBJECTS} objects")
            if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise ArtifactRefused("it has a soft or external link, which Keras does not write")
            found = group[name]
            if isinstance(found, h5py.Group):
                self.group(found, depth + 1)
            elif isinstance(found, h5py.Dataset):
                self.dataset(found)
            else:
                raise ArtifactRefused("it has something that is neither a group nor a dataset")

    def dataset(self, dataset: Any) -> None:
        stored = dataset.id.get_create_plist()
        if stored.get_external_count() or stored.get_layout() == h5py.h5d.VIRTUAL:
            raise ArtifactRefused("it takes data from another file, which Keras does not do")
        if stored.get_nfilters():
            raise ArtifactRefused("it has compressed data, which Keras does not write")
        self.claimed += prod(dataset.shape or ()) * dataset.dtype.itemsize
        if self.claimed > self.size:
            raise ArtifactRefused(f"it claims more data than its {self.size} bytes hold")
