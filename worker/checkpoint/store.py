"""The checkpoints of a consumer group: named by offset and digest, verified, read, and collected when old.

    <url>/<group>/<topic>/<partition>/<next_offset>-<sha256 of the file>.h5

The digest is part of the name, so that one atomic publication is enough and a file's soundness can be decided
before HDF5 parses a byte of it. Fletcher32 checksums and a clean open are no proof (RELIABILITY rule 18).
"""

from __future__ import annotations

import errno
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote

from numpy.typing import NDArray

from worker.checkpoint.file import AnySnapshot, Snapshot, write_file
from worker.checkpoint.folders import Folders, open_folders
from worker.checkpoint.packing import Packing
from worker.checkpoint.pointer import CHECKPOINT_NAME
from worker.checkpoint.reader import read_file
from worker.checkpoint.remote import RemoteFolders
from worker.errors import CheckpointDamaged, StoreUnavailable, UsageError
from worker.settings.files import masked

if TYPE_CHECKING:
    from worker.artifact import StateSlot

MAX_BYTES = 16 * 1024**3
LEFTOVER_AGE_S = 3600.0

_PARTITION = re.compile(r"0|[1-9]\d{0,9}")
_LONGEST_NAME = 255


@dataclass(frozen=True)
class CheckpointRef:
    """One checkpoint file, as its name tells; nothing is verified yet.

    Attributes:
        next_offset: the first offset that the state in it does not include.
        digest: SHA-256 of the file, 64 hex digits.
        path: where it is, for people.
    """

    topic: str
    partition: int
    next_offset: int
    digest: str
    path: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.next_offset:020d}-{self.digest}.h5"


class CheckpointStore:
    """Checkpoints of one consumer group. Safe to use from several threads.

    Args:
        url: a directory, or an fsspec URL such as `s3://bucket/prefix`.
        group_id: the consumer group; any text.
        layout: layout of the states, needed to write; None reads any layout.
        folders: another place for the files than the one of the URL.
        max_bytes: larger files are not read.
        packing: how files are written, and what unpacks them; None: plain.
    """

    def __init__(
        self,
        url: str,
        group_id: str,
        layout: Sequence[StateSlot] | None,
        *,
        folders: Folders | None = None,
        max_bytes: int = MAX_BYTES,
        packing: Packing | None = None,
    ) -> None:
        self.url = masked(url)
        self.group = _folder_name(group_id)
        if not group_id or len(self.group) > _LONGEST_NAME:
            raise UsageError(f"group_id: {len(self.group)} characters as a folder name, expected 1 to {_LONGEST_NAME}")
        self.layout = layout
        self.folders = folders if folders is not None else open_folders(url)
        self.max_bytes = max_bytes
        self.packing = packing or Packing()
        self._sound: dict[CheckpointRef, bool] = {}

    @property
    def remote(self) -> bool:
        """Whether it is in an object store, which may take long to answer."""
        return isinstance(self.folders, RemoteFolders)

    def prove(self) -> None:
        """Make sure that the store can do what publishing asks of it; nothing where that was asked before.

        Raises:
            UsageError: it cannot.
            StoreUnavailable: it did not answer.
        """
        if isinstance(self.folders, RemoteFolders):
            self.folders.prove(self.group)

    def write(self, snapshot: AnySnapshot) -> CheckpointRef:
        """Write a snapshot durably; it is visible to others when this returns, or not at all.

        Raises:
            StoreUnavailable: the store failed.
        """
        assert self.layout is not None, "a store without a layout only reads"
        layout = self.layout

        def build(file: BinaryIO) -> str:
            if self.packing.packs:
                with tempfile.TemporaryFile(prefix="cellstream-", buffering=0) as plain:
                    write_file(plain, snapshot, layout)
                    plain.seek(0)
                    self.packing.pack(plain, file)
            else:
                write_file(file, snapshot, layout)
            file.seek(0)
            return f"{snapshot.next_offset:020d}-{_digest(file)}.h5"

        folder = self._folder(snapshot.topic, snapshot.partition)
        with self._translated():
            name, size = self.folders.publish(folder, build)
        ref = self._ref(snapshot.topic, snapshot.partition, name, size)
        assert ref is not None
        self._sound[ref] = True
        return ref

    def refs(self, topic: str, partition: int) -> list[CheckpointRef]:
        """The checkpoints of a partition, newest first, by name only; other files are ignored."""
        with self._translated():
            files = self.folders.files(self._folder(topic, partition))
        refs = (self._ref(topic, partition, name, size) for name, size in files.items())
        return sorted(filter(None, refs), key=lambda ref: ref.name, reverse=True)

    def topics(self) -> list[str]:
        """Topics that have a folder in this group."""
        with self._translated():
            return [unquote(name) for name in self.folders.folders(self.group)]

    def partitions(self, topic: str) -> list[int]:
        """Partitions of a topic that have a folder, ascending."""
        with self._translated():
            names = self.folders.folders(f"{self.group}/{_folder_name(topic)}")
        return sorted(int(name) for name in names if _PARTITION.fullmatch(name))

    def read(self, ref: CheckpointRef, into: NDArray[Any] | None = None) -> Snapshot:
        """Verify and load one checkpoint.

        Whether it belongs to the artifact and the topic of today is for the caller to decide.

        Args:
            ref: which.
            into: see `read_file`; what it holds is undefined when this raises.

        Raises:
            CheckpointOfOtherModel: sound, but its states have another layout than this store's.
            CheckpointOfNewerVersion: of a later format than this cellstream reads.
            CheckpointDamaged: gone, truncated, altered, misnamed or not plausible.
            StoreUnavailable: the store failed.
        """
        try:
            with self._translated(), self._verified(ref) as file, self._unpacked(ref, file) as plain:
                snapshot = read_file(plain, self.layout, ref.path, into)
            _compare(ref, snapshot)
        except CheckpointDamaged:
            self._sound[ref] = False
            raise
        self._sound[ref] = True
        return snapshot

    def sound(self, ref: CheckpointRef) -> bool:
        """Whether a file is what was published: its digest, and what an earlier `read` found. Asks once."""
        if ref not in self._sound:
            try:
                with self._translated(), self._verified(ref):
                    self._sound[ref] = True
            except CheckpointDamaged:
                self._sound[ref] = False
        return self._sound[ref]

    def collect(self, topic: str, partition: int, committed: int, keep: int) -> list[CheckpointRef]:
        """Remove what is no longer needed; only the partition's owner may call this.

        Kept are the sound checkpoints of the newest `keep` offsets that have one, at or below the committed offset, and
        everything newer than the oldest of them. Leftovers of killed writers go when they are old.

        Returns:
            The removed checkpoints.

        Raises:
            StoreUnavailable: the store failed.
        """
        assert keep >= 2, "rule 15: at least two valid checkpoints are kept"
        kept: set[int] = set()
        removed = []
        for ref in self.refs(topic, partition):
            if len(kept) < keep or ref.next_offset in kept:
                if ref.next_offset <= committed and self.sound(ref):
                    kept.add(ref.next_offset)
            else:
                self.remove(ref)
                removed.append(ref)
        with self._translated():
            self.folders.sweep(self._folder(topic, partition), LEFTOVER_AGE_S)
        return removed

    def remove(self, ref: CheckpointRef) -> None:
        """Remove one checkpoint."""
        with self._translated():
            self.folders.remove(self._folder(ref.topic, ref.partition), ref.name)
        self._sound.pop(ref, None)

    @contextmanager
    def _verified(self, ref: CheckpointRef) -> Iterator[BinaryIO]:
        """The file, open at its beginning, after its digest was compared."""
        if ref.size_bytes > self.max_bytes:
            raise CheckpointDamaged(f"{ref.path}: {ref.size_bytes} bytes, at most {self.max_bytes} are read")
        try:
            with self.folders.open(self._folder(ref.topic, ref.partition), ref.name, ref.size_bytes) as file:
                found = _digest(file)
                if found != ref.digest:
                    raise CheckpointDamaged(f"{ref.path}: SHA-256 is {found[:16]}..., expected {ref.digest[:16]}...")
                file.seek(0)
                yield file
        except FileNotFoundError:
            raise CheckpointDamaged(f"{ref.path}: is gone") from None
        except OSError as fault:
            if fault.errno != errno.EIO:
                raise
            raise CheckpointDamaged(f"{ref.path}: its medium is damaged: {fault}") from fault

    @contextmanager
    def _unpacked(self, ref: CheckpointRef, file: BinaryIO) -> Iterator[BinaryIO]:
        with ExitStack() as stack:
            try:
                plain = stack.enter_context(self.packing.unpacked(file, self.max_bytes))
            except CheckpointDamaged as fault:
                raise type(fault)(f"{ref.path}: {fault}") from fault
            yield plain

    def _ref(self, topic: str, partition: int, name: str, size: int) -> CheckpointRef | None:
        match = CHECKPOINT_NAME.fullmatch(name)
        if match is None:
            return None
        path = f"{self.url.rstrip('/')}/{self._folder(topic, partition)}/{name}"
        return CheckpointRef(topic, partition, int(match[1]), match[2], path, size)

    def _folder(self, topic: str, partition: int) -> str:
        return f"{self.group}/{_folder_name(topic)}/{partition}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            raise StoreUnavailable(f"checkpoint store {self.url}: {fault}") from fault


def _digest(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _folder_name(text: str) -> str:
    """Any text as the name of one folder: `..`, `/` and hidden names cannot come out of it."""
    name = quote(text, safe="")
    return "%2E" + name[1:] if name.startswith(".") else name


def _compare(ref: CheckpointRef, snapshot: Snapshot) -> None:
    """Refuse a file that was moved to another partition's folder or renamed."""
    named = (ref.topic, ref.partition, ref.next_offset)
    found = (snapshot.topic, snapshot.partition, snapshot.next_offset)
    if named != found:
        raise CheckpointDamaged(f"{ref.path}: is of topic, partition, next_offset {found}, its place says {named}")
