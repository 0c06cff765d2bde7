"""Laws of packed files: what comes out is what went in, and nothing that was changed comes out at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.snapshots import LAYOUT, TOPIC, assert_equal, make_snapshot
from worker.checkpoint import CheckpointStore, packing
from worker.checkpoint.packing import Packing, keys_of
from worker.errors import CheckpointDamaged, UsageError

KEYS = [bytes([number]) * 32 for number in (1, 2)]
WAYS = [{"compress": compress, "keys": keys} for compress in (False, True) for keys in ((), KEYS[:1])]


def packed(way: Packing, content: bytes) -> bytes:
    file = io.BytesIO()
    way.pack(io.BytesIO(content), file)
    return file.getvalue()


def unpacked(way: Packing, content: bytes, most: int = 10_000) -> bytes:
    with way.unpacked(io.BytesIO(content), most) as plain:
        return plain.read()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PIECE_BYTES", 64)


@pytest.mark.parametrize("way", WAYS[1:])
def test_what_was_packed_comes_back(way: Any) -> None:
    for length in (0, 1, 63, 64, 65, 128, 1000):
        content = bytes(number % 7 for number in range(length))
        found = packed(Packing(**way), content)
        assert unpacked(Packing(keys=KEYS), found) == content
        assert not way.get("keys") or length < 20 or content[:20] not in found


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), length=st.integers(1, 300))
def test_encrypted_file_of_which_a_bit_was_changed_never_comes_out(place: float, bit: int, length: int) -> None:
    way = Packing(compress=True, keys=KEYS[:1])
    content = bytearray(packed(way, bytes(range(256)) * 2)[: 60 + length])
    content[max(8, int(place * len(content)))] ^= 1 << bit
    with pytest.raises(CheckpointDamaged):
        unpacked(way, bytes(content))


def test_pieces_cannot_be_left_out_moved_or_come_from_another_file() -> None:
    way = Packing(keys=KEYS[:1])
    head = 16 + 40
    one, other = packed(way, b"a" * 192), packed(way, b"b" * 192)
    piece = (len(one) - head) // 3
    first, second, third = (one[head + at * piece :][:piece] for at in range(3))
    for pieces in (first + second, second + first + third, first + third, third, b"", first + second + third + third):
        if pieces:
            with pytest.raises(CheckpointDamaged):
                unpacked(way, one[:head] + pieces)
    with pytest.raises(CheckpointDamaged):
        unpacked(way, one[:head] + other[head:])


def test_file_that_unpacks_to_more_than_may_be_read_is_refused() -> None:
    way = Packing(compress=True)
    with pytest.raises(CheckpointDamaged, match="more than 999"):
        unpacked(way, packed(way, bytes(1000)), most=999)


@pytest.mark.parametrize("way", WAYS)
def test_checkpoint_is_read_whatever_it_was_written_with(tmp_path: Path, way: Any) -> None:
    CheckpointStore(str(tmp_path), "group", LAYOUT, packing=Packing(**way)).write(make_snapshot())
    reader = CheckpointStore(str(tmp_path), "group", LAYOUT, packing=Packing(keys=KEYS[::-1]))
    (ref,) = reader.refs(TOPIC, 0)
    assert_equal(reader.read(ref), make_snapshot())
    assert reader.sound(ref)
    if way["keys"]:
        with pytest.raises(CheckpointDamaged, match="not in checkpoint_secret"):
            CheckpointStore(str(tmp_path), "group", LAYOUT).read(ref)


@pytest.mark.parametrize("text", ["12", "xy" * 32, "ab" * 32 + ",12"])
def test_key_that_is_none_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Packing(keys=keys_of(text))
    assert text not in str(refused.value)
    assert "checkpoint_secret" in str(refused.value)
