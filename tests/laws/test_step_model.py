"""Laws of the step model's blocks: which shapes it offers, and that none of them shows in a single bit."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.blocks import step_streams
from worker.errors import NotStreamable
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

import keras  # noqa: E402  (after its variables are set)

from tests.laws.known_models import FEATURES, MODELS, SOFTMAX, TOLERANCE, shared  # noqa: E402
from tests.laws.streamed import functional, sequential, with_random_weights  # noqa: E402
from worker.model import step_model as model_module  # noqa: E402
from worker.model.graph import StepGraph  # noqa: E402
from worker.model.parity import certify, draw_samples, expected_answers, run_interleaved  # noqa: E402
from worker.model.proof import NARROWEST, agrees  # noqa: E402
from worker.model.step_model import DEEP_DEPTHS, DEEP_WIDTHS, WIDTHS, StepModel  # noqa: E402

L = keras.layers


@pytest.fixture(scope="module")
def stepped() -> StepModel:
    """Every rule that keeps state, with all widths."""
    made = StepModel(
        sequential(
            L.Masking(),
            L.LSTM(7, return_sequences=True),
            L.LayerNormalization(),
            L.GRU(5, return_sequences=True),
            L.SimpleRNN(3, return_sequences=True),
            L.Dense(2, **SOFTMAX),
        )
    )
    assert all(made.add_width(width) for width in WIDTHS)
    assert made.add_deep(NARROWEST)
    for width in DEEP_WIDTHS:
        made.add_deep(width)  # a narrow one may be dropped, as on a CPU where its sums run otherwise
    return made


def test_buckets_are_every_depth_of_every_proven_width_and_the_deep_ones(stepped: StepModel) -> None:
    wide = [(depth, width) for depth in (1, 2, 4) for width in sorted(WIDTHS)]
    assert stepped.buckets[: len(wide)] == tuple(wide)
    deep = stepped.buckets[len(wide) :]
    assert {(depth, NARROWEST) for depth in DEEP_DEPTHS} <= set(deep)
    assert set(deep) <= {(depth, width) for depth in DEEP_DEPTHS for width in DEEP_WIDTHS}


def test_a_network_that_xla_rewrites_when_its_weights_are_constants_is_stepped_all_the_same() -> None:
    """With constants, places in a block show in an LSTM of one unit."""
    model = sequential(L.LSTM(1, return_sequences=True), L.Dense(1, activation="sigmoid"))
    assert certify(model, StepModel(model), seeds=(1,)).largest_difference <= TOLERANCE


def test_the_background_thread_offers_every_bucket() -> None:
    stepped = StepModel(MODELS["no state"]())
    stepped.start_compiling()
    stepped.start_compiling()  # a second call starts no second thread
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "compile-buckets"]
    thread.join()
    stepped.stop_compiling()
    assert len(stepped.buckets) >= 3 * len(WIDTHS) + len(DEEP_DEPTHS)


def one_by_one(stepped: StepModel, sequence: Any) -> Any:
    """A sequence alone in the narrowest block, one sample at a time, in the first row."""
    states = np.zeros((NARROWEST, stepped.state_size), np.float32)
    answers = []
    for t, sample in enumerate(sequence):
        inputs = np.zeros((1, NARROWEST, stepped.features), np.float32)
        inputs[0, 0] = sample
        mask, reset = np.zeros((2, 1, NARROWEST), bool)
        mask[0, 0], reset[0, 0] = True, t == 0
        block, states = stepped.run_block(inputs, mask, reset, states)
        answers.append(block[0, 0])
    return np.array(answers)


class OnlyBucket:
    """A model that offers one of its buckets."""

    def __init__(self, model: StepModel, bucket: tuple[int, int]) -> None:
        self.outputs, self.call_cost = model.outputs, model.call_cost
        self.buckets, self.run_block = (bucket,), model.run_block


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=90), seed=st.integers(0, 2**32 - 1))
def test_blocks_cannot_be_seen_in_the_output(stepped: StepModel, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = [rng.standard_normal((length, FEATURES)).astype(np.float32) for length in lengths]
    through_blocks = run_interleaved(stepped, sequences, stepped.buckets, rng)
    again = run_interleaved(stepped, sequences, stepped.buckets[:1], rng)
    for one, other in zip(through_blocks, again, strict=True):
        assert one.tobytes() == other.tobytes()
    longest = int(np.argmax(lengths))
    assert one_by_one(stepped, sequences[longest]).tobytes() == through_blocks[longest].tobytes()


def test_a_stream_with_many_samples_gets_the_bits_of_single_timesteps(stepped: StepModel) -> None:
    rng = np.random.default_rng(5)
    counts = np.array([700, 1, 90, 17, 16, 5])
    inputs = rng.standard_normal((counts.sum(), FEATURES)).astype(np.float32)
    begins = rng.random(len(inputs)) < 0.01
    start = rng.standard_normal((len(counts), stepped.state_size)).astype(np.float32)
    deep, single = start.copy(), start.copy()
    answers, cells = step_streams(stepped, inputs, begins, counts, deep)
    assert cells < NARROWEST * 800, "as deep as the samples go, and hardly deeper"
    alone, _ = step_streams(OnlyBucket(stepped, (1, NARROWEST)), inputs, begins, counts, single)
    assert answers.tobytes() == alone.tobytes()
    assert deep.tobytes() == single.tobytes()


@pytest.mark.parametrize("bucket", [(1, 64), (4, 64), (2, 1024), (16, 64)])
def test_padding_leaves_a_state_alone_and_a_reset_starts_anew(stepped: StepModel, bucket: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((*bucket, FEATURES)).astype(np.float32)
    states = rng.standard_normal((bucket[1], stepped.state_size)).astype(np.float32)
    inputs[:, 0] = np.nan
    mask, reset = np.ones(bucket, bool), np.zeros(bucket, bool)
    mask[:, 0], reset[:, 1] = False, [True] + [False] * (bucket[0] - 1)
    kept = [part.copy() for part in (inputs, mask, reset, states)]
    answers, moved = stepped.run_block(inputs, mask, reset, states)
    assert moved[0].tobytes() == states[0].tobytes()
    states[1], reset[:] = stepped.initial_state, False
    anew, moved_anew = stepped.run_block(inputs, mask, reset, states)
    assert answers[:, 1:].tobytes() == anew[:, 1:].tobytes()
    assert moved.tobytes() == moved_anew.tobytes()
    assert not np.isnan(moved).any()
    for part, before in zip((inputs, mask), kept, strict=False):
        assert part.tobytes() == before.tobytes()


def test_layout_has_one_slot_for_every_piece_without_gaps(stepped: StepModel) -> None:
    names = [(slot.name, slot.shape, slot.offset) for slot in stepped.layout]
    assert names == [
        ("hidden_state", (7,), 0),
        ("cell_state", (7,), 7),
        ("hidden_state", (5,), 14),
        ("hidden_state", (3,), 19),
    ]
    assert stepped.state_size == 22
    assert stepped.initial_state.tobytes() == np.zeros(22, np.float32).tobytes()
    twice = StepGraph(functional(shared))
    assert [path for path, _ in twice.slots] == ["both", "both#2"]


def test_later_training_does_not_reach_a_stepped_model() -> None:
    model = MODELS["gru"]()
    stepped = StepModel(model)
    samples = draw_samples(model, np.random.default_rng(1))
    before = list(expected_answers(model, True, samples))[-1][1]
    with_random_weights(model, seed=9)
    stepped.add_width(128)
    answers = run_interleaved(stepped, list(samples), ((4, 128),), np.random.default_rng(2))
    np.testing.assert_allclose([answer[-1] for answer in answers], before, atol=1e-6)


def test_a_width_whose_rows_differ_in_one_bit_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = StepModel(MODELS["simple"]())
    honest = stepped._compiled

    def sloppy(width: int) -> Any:
        def run(*block: Any) -> Any:
            answers, states = honest(width)(*block)
            answers = answers.copy()
            answers[:, 70] = np.nextafter(answers[:, 70], np.float32(2))
            return answers, states

        return run

    monkeypatch.setattr(stepped, "_compiled", sloppy)
    assert not stepped.add_width(128)
    assert stepped.buckets == ((1, 64), (2, 64), (4, 64))


@pytest.mark.parametrize("leak", ["neighbours", "place", "depth"])
def test_the_proof_finds_a_block_that_leaks(leak: str) -> None:
    def block(inputs: Any, mask: Any, reset: Any, states: Any) -> Any:
        after = states + inputs.sum(0)
        extra = {"neighbours": states.sum(), "place": np.arange(len(states))[:, None], "depth": len(inputs)}[leak]
        return inputs.copy(), (after + np.float32(1e-3) * extra).astype(np.float32)

    assert not agrees(block, block, NARROWEST, 3, np.zeros(3, np.float32))


def test_compiling_ends_when_asked() -> None:
    stepped = StepModel(MODELS["no state"]())
    stepped.start_compiling()
    stepped.stop_compiling()
    assert not [thread for thread in threading.enumerate() if thread.name == "compile-buckets"]
    assert stepped.buckets[0] == (1, 64)


def test_a_model_whose_rows_mix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "agrees", lambda *_: False)
    with pytest.raises(NotStreamable, match="place in a block"):
        StepModel(MODELS["no state"]())
