"""Checkpoints of partition state: the names that the rest of the worker uses.

`checkpoint_file` writes a snapshot as HDF5 and `checkpoint_reader` reads it back, trusting nothing;
`checkpoint_folders` publishes files atomically in a directory or an fsspec store; `checkpoint_store` names,
verifies and collects them; `checkpoint_writer` does the writing on a background thread.
"""

from __future__ import annotations

from worker.checkpoint_file import FORMAT_VERSION, Snapshot
from worker.checkpoint_store import CheckpointRef, CheckpointStore
from worker.checkpoint_writer import CheckpointWriter, WriteFailed, Written

__all__ = [
    "FORMAT_VERSION",
    "CheckpointRef",
    "CheckpointStore",
    "CheckpointWriter",
    "Snapshot",
    "WriteFailed",
    "Written",
]
