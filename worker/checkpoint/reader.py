"""A checkpoint file, read under suspicion: back from HDF5 to a snapshot.

The digest was verified before, but a file may have been made to be read here. Only hard links to contiguous,
unfiltered datasets of the expected types are opened; a virtual or external dataset, a compressed one or one that
claims more than the file has is refused before a byte of it is read (RELIABILITY rule 19). Nothing is read from
the global heap, where strings of variable length lie: HDF5 2.0 walks a damaged one for ever.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from worker.checkpoint.file import (
    COLUMNS,
    FORMAT_VERSION,
    IDS,
    MAX_TEXT,
    NUMBERS,
    OPTIONAL,
    PLAIN_VERSION,
    ROWS,
    TEXTS,
    Snapshot,
    cuts_of,
)
from worker.checkpoint.hdf5_io import WholeFile
from worker.errors import CheckpointDamaged, CheckpointOfNewerVersion, CheckpointOfOtherModel

if TYPE_CHECKING:
    from worker.artifact import StateSlot

MAX_SLOTS = 4096

# What h5py raises, depending on which of its layers notices a malformed file.
_HDF5_FAULTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


def read_file(
    file: BinaryIO, layout: Sequence[StateSlot] | None, name: str, into: npt.NDArray[Any] | None = None
) -> Snapshot:
    """Read what `write_file` wrote.

    Args:
        file: readable and seekable; its digest has been verified.
        layout: the layout that the states must have; None takes any.
        name: what to call the file in errors.
        into: `(rows, state_size)`, where to read the states to if it has rows enough; else new memory is taken.

    Raises:
        CheckpointOfOtherModel: a sound file, but its states are laid out otherwise.
        CheckpointOfNewerVersion: a file of a later format.
        CheckpointDamaged: anything else that is not as `write_file` leaves it.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        with h5py.File(WholeFile(file), "r") as h5:
            return _Reader(h5, size).snapshot(layout, into)
    except CheckpointDamaged as fault:
        raise type(fault)(f"{name}: {fault}") from None
    except _HDF5_FAULTS as fault:
        raise CheckpointDamaged(f"{name}: HDF5 cannot read it: {type(fault).__name__}: {fault}") from fault


class _Reader:
    """An open HDF5 file under suspicion; `size` is the file's length in bytes."""

    def __init__(self, h5: Any, size: int) -> None:
        self.h5 = h5
        self.size = size
        self.claimed = 0

    def snapshot(self, layout: Sequence[StateSlot] | None, into: npt.NDArray[Any] | None) -> Snapshot:
        version = self.number(self.h5, "format_version")
        if version > FORMAT_VERSION:
            raise CheckpointOfNewerVersion(
                f"format version {version} of a newer cellstream, this one reads {PLAIN_VERSION} to {FORMAT_VERSION}"
            )
        if version < PLAIN_VERSION:
            raise CheckpointDamaged(f"format version {version}, which there never was")
        numbers: dict[str, Any] = {name: self.number(self.h5, name) for name in NUMBERS}
        texts: dict[str, Any] = {name: self.text(self.h5, name) for name in TEXTS}
        optional = [name for name in OPTIONAL if name in self.h5]
        self.expect_members(self.h5, {"ids", "states", *COLUMNS, *optional})
        slots = self.slots(self.group("states"))
        if layout is not None:
            self.compare(slots, layout, texts["artifact_digest"])
        ids = self.group("ids")
        self.expect_members(ids, {"blob", "offsets"})
        bounds = self.column(self.dataset(ids, "offsets", "<i8", ndim=1))
        n = len(bounds) - 1
        columns: dict[str, Any] = {name: self.column(self.dataset(self.h5, name, "<i8", ndim=1), n) for name in COLUMNS}
        _expect_plausible(columns, numbers["next_offset"])
        extras = {name: self.column(self.dataset(self.h5, name, OPTIONAL[name], _axes(name)), n) for name in optional}
        stream_ids = self.stream_ids(self.column(self.dataset(ids, "blob", "|u1", ndim=1)), bounds)
        index = dict(zip(stream_ids, range(n), strict=True))
        if len(index) != n:
            raise CheckpointDamaged(f"{n - len(index)} stream IDs are there more than once")
        states = self.states(slots, n, into)
        return Snapshot(**numbers, **texts, **columns, stream_ids=stream_ids, index=index, states=states, extras=extras)

    def slots(self, group: Any) -> list[Any]:
        """The datasets of the states, in the layout's order."""
        count = len(group)
        if count > MAX_SLOTS:
            raise CheckpointDamaged(f"{count} state slots, at most {MAX_SLOTS} expected")
        self.expect_members(group, {str(index) for index in range(count)})
        return [self.dataset(group, str(index), "<f4", ndim=None) for index in range(count)]

    def compare(self, slots: list[Any], layout: Sequence[StateSlot], digest: str) -> None:
        found = [(self.text(slot, "layer"), self.text(slot, "name"), slot.shape[1:]) for slot in slots]
        expected = [(slot.layer, slot.name, tuple(slot.shape)) for slot in layout]
        if found != expected:
            differs = next(
                (f"{a}, expected {b}" for a, b in zip(found, expected, strict=False) if a != b), "fewer or more"
            )
            raise CheckpointOfOtherModel(
                f"its states are laid out for another model (artifact {digest[:12]}): {len(found)} slots, "
                f"expected {len(expected)}; first difference: {differs}"
            )

    def states(self, slots: list[Any], n: int, into: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        """Gather the slots side by side: (n, state_size)."""
        if any(slot.shape[0] != n for slot in slots):
            raise CheckpointDamaged(f"a state slot does not have the {n} rows that the stream IDs have")
        cuts = cuts_of([prod(slot.shape[1:]) for slot in slots])
        width = cuts[-1][1] if cuts else 0
        fits = into is not None and len(into) >= n and into.shape[1] == width
        states = into[:n] if into is not None and fits else np.empty((n, width), np.float32)
        for start in range(0, n, ROWS):
            rows = states[start : start + ROWS]  # (rows, state_size): few enough to stay in the cache for all slots
            for slot, (begin, end) in zip(slots, cuts, strict=True):
                rows[:, begin:end] = slot[start : start + ROWS].reshape(len(rows), end - begin)
        return states

    def stream_ids(self, blob: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]) -> list[bytes]:
        if bounds[0] != 0 or bounds[-1] != len(blob) or (np.diff(bounds) < 0).any():
            raise CheckpointDamaged(f"the offsets of the stream IDs do not cut their {len(blob)} bytes")
        whole = blob.tobytes()
        ids: list[bytes] = []
        for start in range(0, len(bounds) - 1, IDS):
            ids += [whole[a:b] for a, b in pairwise(bounds[start : start + IDS + 1].tolist())]
        return ids

    def column(self, dataset: Any, n: int | None = None) -> npt.NDArray[Any]:
        length = dataset.shape[0]
        if n is not None and length != n:
            raise CheckpointDamaged(f"{dataset.name} has {length} rows, expected {n}")
        if n is None and dataset.dtype.kind == "i" and length < 1:
            raise CheckpointDamaged(f"{dataset.name} is empty, expected one row more than there are streams")
        values: npt.NDArray[Any] = dataset[()]
        return values

    def dataset(self, parent: Any, name: str, dtype: str, ndim: int | None) -> Any:
        """Open a dataset whose every byte is in this file, and not more than once the file's size altogether."""
        self.expect_hard_link(parent, name)
        dataset = parent[name]
        where = f"dataset {parent.name.rstrip('/')}/{name}"
        if not isinstance(dataset, h5py.Dataset):
            raise CheckpointDamaged(f"{where} is not a dataset")
        stored = dataset.id.get_create_plist()
        plain = (
            stored.get_layout() == h5py.h5d.CONTIGUOUS and not stored.get_external_count() and not stored.get_nfilters()
        )
        if not plain:
            raise CheckpointDamaged(f"{where} is virtual, external, chunked or compressed, expected contiguous")
        if (
            dataset.dtype.str != dtype
            or dataset.shape is None
            or not dataset.shape
            or ndim not in (None, len(dataset.shape))
        ):
            raise CheckpointDamaged(
                f"{where} is {dataset.dtype} {dataset.shape}, expected {dtype} of {ndim or 'one or more'} axes"
            )
        nbytes = prod(dataset.shape) * dataset.dtype.itemsize
        self.claimed += nbytes
        begin = dataset.id.get_offset() or 0
        if nbytes != dataset.id.get_storage_size() or begin + nbytes > self.size or self.claimed > self.size:
            raise CheckpointDamaged(
                f"{where} claims shape {dataset.shape}, more than the file of {self.size} bytes holds"
            )
        return dataset

    def group(self, name: str) -> Any:
        self.expect_hard_link(self.h5, name)
        group = self.h5[name]
        if not isinstance(group, h5py.Group):
            raise CheckpointDamaged(f"{name} is not a group")
        return group

    def expect_members(self, group: Any, names: set[str]) -> None:
        if len(group) != len(names) or set(group) != names:
            raise CheckpointDamaged(f"group {group.name} has other members than {', '.join(sorted(names)[:12])}")

    def expect_hard_link(self, parent: Any, name: str) -> None:
        kind = parent.id.links.get_info(name.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            raise CheckpointDamaged(f"{name} is a soft or external link; checkpoints have none")

    def number(self, owner: Any, name: str) -> int:
        attribute = owner.attrs.get_id(name) if name in owner.attrs else None
        if attribute is None or attribute.shape != () or attribute.dtype.str != "<i8":
            raise CheckpointDamaged(f"attribute {name} is missing or not a 64-bit integer")
        return int(owner.attrs[name])

    def text(self, owner: Any, name: str) -> str:
        attribute = owner.attrs.get_id(name) if name in owner.attrs else None
        if (
            attribute is None
            or attribute.shape != ()
            or attribute.dtype.kind != "S"
            or attribute.dtype.itemsize > MAX_TEXT
        ):
            raise CheckpointDamaged(f"attribute {name} is missing or not a text of fixed length, at most {MAX_TEXT}")
        return bytes(owner.attrs[name]).decode()


def _expect_plausible(columns: dict[str, npt.NDArray[np.int64]], next_offset: int) -> None:
    """Refuse rows that no sequence of records below `next_offset` can have left."""
    starts, offsets = columns["starts"], columns["offsets"]
    negative = any((columns[name] < 0).any() for name in ("timesteps", "starts", "start_samples"))
    if negative or (starts > offsets).any() or (offsets >= next_offset).any():
        raise CheckpointDamaged(f"timesteps or offsets contradict each other or next_offset {next_offset}")


def _axes(name: str) -> int:
    return 2 if name == "last_values" else 1
