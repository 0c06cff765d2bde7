"""Laws of the bundled data sets and of their division."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets import BUNDLED, Sequences, Split, held_out, load, split
from training.splits import TEST_SHARE, VALIDATION_SHARE, split_indices
from worker.errors import UsageError


def test_bundled_sets_come_from_the_wheel_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a bundled data set opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    motions, vowels = load("basic-motions"), load("japanese-vowels")
    assert {sequence.shape for sequence in motions.inputs} == {(100, 6)}
    assert (len(motions), len(motions.features)) == (80, 6)
    assert motions.classes == ("badminton", "running", "standing", "walking")
    assert (len(vowels), len(vowels.features), len(vowels.classes)) == (640, 12, 9)
    assert (vowels.lengths.min(), vowels.lengths.max()) == (7, 29)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_data_set_is_float32_finite_labelled_and_named(name: str) -> None:
    sequences = load(name)
    assert all(sequence.dtype == np.float32 and np.isfinite(sequence).all() for sequence in sequences.inputs)
    assert set(sequences.labels) == set(range(len(sequences.classes)))
    assert len(set(sequences.stream_ids)) == len(sequences) == len(sequences.labels)


@pytest.mark.parametrize("name", BUNDLED)
def test_parts_are_disjoint_whole_and_the_same_again(name: str) -> None:
    sequences = load(name)
    parts, again, other = split(sequences, seed=7), split(sequences, seed=7), split(sequences, seed=8)
    ids = [part.stream_ids for part in (parts.train, parts.validation, parts.test)]
    assert sorted(sum(ids, ())) == sorted(sequences.stream_ids)
    assert parts.test.stream_ids == again.test.stream_ids != other.test.stream_ids
    assert held_out(name, 7).stream_ids == parts.test.stream_ids


@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_class_is_cut_in_the_same_proportion(counts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, validation, test = split_indices(labels, [str(i) for i in range(len(counts))], seed)
    assert sorted([*train, *validation, *test]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        shares = [int((labels[part] == label).sum()) for part in (train, validation, test)]
        assert min(shares) >= 1
        assert abs(shares[1] - VALIDATION_SHARE * count) <= 1
        assert abs(shares[2] - TEST_SHARE * count) <= 1


def test_a_class_too_small_for_three_parts_is_named() -> None:
    with pytest.raises(UsageError, match="'rare' has 2; training"):
        split_indices(np.array([0, 0, 0, 1, 1]), ["common", "rare"], seed=0)


def test_taking_keeps_inputs_labels_and_names_together() -> None:
    sequences = load("japanese-vowels")
    part = sequences.take([500, 3])
    assert part.stream_ids == (sequences.stream_ids[500], sequences.stream_ids[3])
    assert part.labels.tolist() == [sequences.labels[500], sequences.labels[3]]
    assert part.inputs[1] is sequences.inputs[3]


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="basic-motions and japanese-vowels"):
        load("sales.csv")


def test_without_aeon_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aeon", None)
    monkeypatch.setitem(sys.modules, "aeon.datasets", None)
    with pytest.raises(UsageError, match=r"cellstream\[training\]"):
        load("basic-motions")


def test_publish_finds_the_held_out_recordings_through_entry_points() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="cellstream.datasets")}
    assert set(found) == set(BUNDLED)
    sent: Sequences = found["basic-motions"]()
    assert sent.stream_ids == held_out("basic-motions").stream_ids


def timed(count: int = 40) -> Sequences:
    """Two classes, streams of two sequences each, the later streams first."""
    return Sequences(
        "timed",
        tuple(np.full((3, 1), i, np.float32) for i in range(count)),
        np.arange(count) // 2 % 2,
        ("a",),
        ("x", "y"),
        tuple(map(str, range(count))),
        tuple(f"stream-{i // 2}" for i in range(count)),
        begins=tuple(float(count - i) for i in range(count)),
    )


def test_by_time_the_streams_that_begin_last_are_held_out_and_those_before_them_validate() -> None:
    parts = split(timed(), 3, by_time=True)
    for label in (0, 1):
        begins = [
            [begin for begin, own in zip(part.begins, part.labels, strict=True) if own == label]
            for part in (parts.train, parts.validation, parts.test)
        ]
        assert max(begins[0]) < min(begins[1])
        assert max(begins[1]) < min(begins[2])
    assert not parts.shared_streams()
    assert parts.facts()["division"] == {"held_out": 0.25, "by_time": True}


def test_without_times_there_is_no_division_by_time() -> None:
    for begins in ((), (0.0,) * 40):
        with pytest.raises(UsageError, match="name a column of times that all streams share"):
            split(replace(timed(), begins=begins), by_time=True)


def test_all_may_be_learned() -> None:
    parts = split(timed(), 1, 0.0)
    assert len(parts.test) == 0
    assert len(parts.train) + len(parts.validation) == 40


@given(st.floats(0.01, 0.9), st.integers(3, 30), st.integers(0, 20))
def test_every_part_has_every_class_whatever_is_held_out(share: float, members: int, seed: int) -> None:
    labels = np.repeat([0, 1], members)
    for part in split_indices(labels, ("x", "y"), seed, share):
        assert set(labels[part]) == {0, 1}


def test_a_stream_on_both_sides_is_refused() -> None:
    parts = split(timed(), 1)
    with pytest.raises(UsageError, match="more than one of training, validation and test: 'stream-"):
        Split(parts.train, parts.validation, parts.train.take([0]))
