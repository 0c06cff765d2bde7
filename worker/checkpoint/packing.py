"""Checkpoint files smaller, or unreadable for others: zstd, then AES-256-GCM, piece by piece.

    8 bytes   b"CELLPACK"
    4 bytes   version, zstd (0 or 1), AES (0 or 1), 0
    4 bytes   bytes of a piece before it is packed, little-endian
    8, 32     only with AES: which key (the beginning of its SHA-256), and a random salt
    then for each piece: 4 bytes, the length of what follows, little-endian, and the packed piece

Each file has a key of its own, HKDF-SHA256 of the key and the salt, so that a piece's nonce is its number and whether
it is the last: no piece can be changed, left out, moved or come from another file. The digest in the file's name is of
the packed file, and is compared before anything here is read.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from worker.checkpoint.hdf5_io import move_all
from worker.errors import CheckpointDamaged, CheckpointOfNewerVersion, UsageError

MAGIC = b"CELLPACK"
VERSION = 1
PIECE_BYTES = 1024 * 1024
KEY_BYTES = 32
_HEAD = struct.Struct("<8sBBBxI")
_LENGTH = struct.Struct("<I")
_MAX_PIECE_BYTES = 16 * 1024 * 1024


class Packing:
    """How files are packed, and what is needed to unpack them.

    Args:
        compress: with zstd, at its fastest level.
        keys: of 32 bytes each; the first one packs, all of them unpack; none: nothing is encrypted.

    Raises:
        UsageError: a package is missing, or a key is no key.
    """

    def __init__(self, *, compress: bool = False, keys: Sequence[bytes] = ()) -> None:
        if any(len(key) != KEY_BYTES for key in keys):
            raise UsageError(f"checkpoint_secret: expected {2 * KEY_BYTES} hex digits; make one: openssl rand -hex 32")
        self.compress = compress
        self.keys = {hashlib.sha256(key).digest()[:8]: key for key in keys}
        self._first = keys[0] if keys else None
        try:
            if compress:
                import zstandard  # noqa: F401 - is it there?
            if keys:
                import cryptography  # noqa: F401 - likewise
        except ImportError as fault:
            raise UsageError(
                f"checkpoint_compression, checkpoint_secret: {fault}; pip install 'cellstream[packing]'"
            ) from fault

    @property
    def packs(self) -> bool:
        """Whether files are anything but plain."""
        return self.compress or self._first is not None

    def pack(self, plain: BinaryIO, packed: BinaryIO) -> None:
        """Copy a file, packed."""
        head = _HEAD.pack(MAGIC, VERSION, self.compress, self._first is not None, PIECE_BYTES)
        cipher = None
        if self._first is not None:
            salt = os.urandom(32)
            head += hashlib.sha256(self._first).digest()[:8] + salt
            cipher = _cipher(self._first, salt)
        move_all(head, packed.write)
        squeeze = _compressor() if self.compress else None
        number, piece = 0, plain.read(PIECE_BYTES)
        while True:
            following = plain.read(PIECE_BYTES)
            out = piece if squeeze is None else squeeze.compress(piece)
            if cipher is not None:
                out = cipher.encrypt(_nonce(number, not following), out, head)
            move_all(_LENGTH.pack(len(out)) + out, packed.write)
            if not following:
                return
            number, piece = number + 1, following

    @contextmanager
    def unpacked(self, file: BinaryIO, max_bytes: int) -> Iterator[BinaryIO]:
        """A file as it was before it was packed; itself when it was not.

        Args:
            file: at its beginning; its digest has been compared.
            max_bytes: of which the unpacked file may have no more.

        Raises:
            CheckpointOfNewerVersion: it is packed in a way of later.
            CheckpointDamaged: it is not as `pack` leaves it, or its key is not here.
        """
        packed = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not packed:
            yield file
            return
        with tempfile.TemporaryFile(prefix="cellstream-", buffering=0) as plain:
            left = max_bytes
            for piece in self._pieces(file):
                left -= len(piece)
                if left < 0:
                    raise CheckpointDamaged(f"unpacks to more than {max_bytes} bytes")
                move_all(piece, plain.write)
            plain.seek(0)
            yield plain

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        head = _exactly(file, _HEAD.size)
        _, version, compressed, encrypted, piece_bytes = _HEAD.unpack(head)
        if version > VERSION:
            raise CheckpointOfNewerVersion(
                f"is packed in the way of a newer cellstream (version {version}), this one unpacks {VERSION}"
            )
        if version != VERSION or compressed > 1 or encrypted > 1 or not 0 < piece_bytes <= _MAX_PIECE_BYTES:
            raise CheckpointDamaged(f"is packed in a way (version {version}) that this cellstream does not know")
        cipher = None
        if encrypted:
            name, salt = _exactly(file, 8), _exactly(file, 32)
            head += name + salt
            if name not in self.keys:
                raise CheckpointDamaged(f"is encrypted with key {name.hex()}, which is not in checkpoint_secret")
            cipher = _cipher(self.keys[name], salt)
        expand = _decompressor() if compressed else None
        number, out, length = 0, b"", file.read(_LENGTH.size)
        while length:
            if len(length) < _LENGTH.size or _LENGTH.unpack(length)[0] > 2 * piece_bytes + 1024:
                raise CheckpointDamaged("a piece of it has no plausible length")
            out = _exactly(file, _LENGTH.unpack(length)[0])
            length = file.read(_LENGTH.size)
            try:
                if cipher is not None:
                    out = cipher.decrypt(_nonce(number, not length), out, head)
                if expand is not None:
                    out = expand.decompress(out, max_output_size=piece_bytes)
            except Exception as fault:  # each library has errors of its own
                raise CheckpointDamaged(f"piece {number} cannot be unpacked: {type(fault).__name__}") from fault
            yield out
            number += 1


def keys_of(text: str | None) -> list[bytes]:
    """The keys of a setting: hex digits, several with commas.

    Raises:
        UsageError: no hex digits; the text is not in the message.
    """
    try:
        return [bytes.fromhex(key.strip()) for key in text.split(",")] if text else []
    except ValueError:
        raise UsageError("checkpoint_secret: expected hex digits, several keys with commas") from None


def _exactly(file: BinaryIO, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = file.read(count - len(found))
        if not more:
            raise CheckpointDamaged("is packed, and ends too early")
        found += more
    return found


def _nonce(number: int, last: bool) -> bytes:
    return struct.pack(">QI", number, last)


def _cipher(key: bytes, salt: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, b"cellstream checkpoint").derive(key))


def _compressor() -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=1)


def _decompressor() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor()
