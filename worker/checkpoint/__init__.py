"""Checkpoints of partition state: the names that the rest of the worker uses.

What is in here, from the top:

    writer            a thread that writes snapshots, and removes the files that they make superfluous
      store           the checkpoints of a group: named by offset and digest, verified, collected
        file, reader  a snapshot as HDF5, and back, trusting nothing; hdf5_io is what both need
        packing       files compressed and encrypted
        folders       where files lie: the road to them by URL
          local       a directory: written, synced, renamed
          other_stores  what fsspec reaches and nothing below does
          remote      object stores: files that never change, and a pointer that is put on a condition
            pointer     what it says
            conditions  whether the store keeps conditions at all
            objects     what is asked of a store; s3, gcs and azure are how it is asked

Only `folders` and what is below it know one store from another.
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
