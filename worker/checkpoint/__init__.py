"""Checkpoints of partition state: the names that the rest of the worker uses.

`file` writes a snapshot as HDF5 and `reader` reads it back, trusting nothing;
`folders` publishes files atomically in a directory or an fsspec store; `store` names,
verifies and collects them; `writer` does the writing on a background thread.
"""

from __future__ import annotations

from worker.checkpoint.file import FORMAT_VERSION, AnySnapshot, LiveSnapshot, Snapshot
from worker.checkpoint.store import CheckpointRef, CheckpointStore
from worker.checkpoint.writer import CheckpointWriter, WriteFailed, Written

__all__ = [
    "FORMAT_VERSION",
    "AnySnapshot",
    "CheckpointRef",
    "CheckpointStore",
    "CheckpointWriter",
    "LiveSnapshot",
    "Snapshot",
    "WriteFailed",
    "Written",
]
