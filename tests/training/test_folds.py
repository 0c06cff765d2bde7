"""Laws of ensembles over folds: who learned what, and what stands behind the members."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.test_fitting import made
from training.calibration import calibration_error, fit_temperatures
from training.datasets import folds_of, join, labels_along
from training.folds import ensemble, fit_folds
from training.networks import Recipe, Scaling, build
from training.splits import fold_indices
from training.trajectories import Trajectories, read_trajectories
from worker import StreamingModel
from worker.errors import UsageError


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=4), folds=st.integers(2, 6), seed=st.integers(0, 50))
@settings(deadline=None)
def test_every_sequence_is_in_one_fold_and_every_class_in_the_same_proportion(
    counts: list[int], folds: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    if folds > len(labels):
        with pytest.raises(UsageError, match=f"{folds} folds of {len(labels)} streams"):
            fold_indices(labels, folds, seed)
        return
    division = fold_indices(labels, folds, seed)
    assert sorted(np.concatenate(division).tolist()) == list(range(len(labels)))
    assert min(map(len, division)) > 0
    for label in range(len(counts)):
        shares = [int((labels[fold] == label).sum()) for fold in division]
        assert max(shares) - min(shares) <= 1


def test_a_stream_is_never_divided_between_folds() -> None:
    parts = made(2, (3,), 40)
    pool = join(parts.train, parts.validation)
    streams = tuple(f"stream-{i // 3}" for i in range(len(pool)))
    pool = join(type(pool)(**{**vars(pool), "streams": streams}), pool.take([]))
    owners = [{streams[i] for i in fold} for fold in folds_of(pool, 3)]
    assert sum(map(len, owners)) == len(set().union(*owners))


@pytest.mark.slow
def test_an_ensemble_is_one_artifact_and_answers_sample_by_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.model.parity.WIDTHS", (64,))  # one compilation less; more widths are other tests' law
    parts = made(3, (5, 8))
    recipe = Recipe(units=(4,), filters=(4,), epochs=2, batch_size=8)
    fitted = fit_folds(parts, recipe, 3, folds=2, smoothing=0.5, decision="early")
    artifact = fitted.write(tmp_path)
    assert fitted.rule is not None
    assert artifact.manifest.decision == fitted.rule
    assert set(fitted.facts["decision"]) == {"out_of_fold", "test"}
    model = StreamingModel.load(tmp_path)
    pool = join(parts.train, parts.validation)
    for i in range(4):
        # What is beside the model are the members' own answers, each of a sequence that it did not learn.
        said = fitted.trajectories.answers[i]
        fold = next(k for k, own in enumerate(folds_of(pool, 2, 3)) if i in own)
        alone = np.asarray(fitted.members[fold].model(pool.inputs[i][None]))[0]
        np.testing.assert_allclose(said, alone, atol=1e-5)
        expected = np.asarray(fitted.model(pool.inputs[i][None]))[0]
        np.testing.assert_allclose(model.run(pool.inputs[i]), expected, atol=2e-6)
    kept = read_trajectories(tmp_path)
    assert kept.stream_ids == pool.stream_ids
    for one, other in zip(kept.labels, labels_along(pool), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("classes", [2, 3])
def test_members_with_masks_become_one_model_that_can_be_stepped(classes: int) -> None:
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    from worker.model.graph import StepGraph

    recipe, scaling = Recipe(units=(3,)), Scaling(np.zeros(2), np.ones(2))
    members = [build(f"member_{i}", classes, scaling, recipe, padded=True) for i in (1, 2)]
    graph = StepGraph(ensemble("made", members, 0.5, np.ones(4)))
    (head,) = graph.heads
    assert (head.width, head.activation) == ((1, "sigmoid") if classes == 2 else (3, "softmax"))
    assert graph.causal


def overconfident(classes: int, sequences: int = 200) -> Trajectories:
    """Answers twice as sure as they may be in the first half of every sequence, and rightly sure in the second."""
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((sequences, 10, classes)) * 1.5
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = (rng.random((sequences, 10, 1)) > shares.cumsum(-1)[..., :-1]).sum(-1)
    logits[:, :5] *= 2
    said = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    said = said[..., 1:] if classes == 2 else said
    names = tuple("abc"[:classes])
    return Trajectories(tuple(said), tuple(labels), names, tuple(map(str, range(sequences))))


@pytest.mark.parametrize("classes", [2, 3])
def test_temperatures_take_back_what_is_too_sure_where_it_is(classes: int) -> None:
    trajectories = overconfident(classes)
    temperatures = fit_temperatures(trajectories, regions=2)
    assert temperatures.shape == (10,)
    assert temperatures[0] == pytest.approx(2.0, rel=0.2)
    assert temperatures[-1] == pytest.approx(1.0, rel=0.2)
    assert calibration_error(trajectories.calibrated(temperatures)) < calibration_error(trajectories) / 2


def test_what_is_kept_is_smoothed_and_calibrated_as_the_layers_of_the_model_do_it() -> None:
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    from worker.model.layers.answers import Calibration, SmoothingCell

    trajectories = overconfident(3, 4)
    temperatures = np.linspace(0.5, 2.0, 7)
    layer = Calibration(7)
    layer.build((None, None, 3))
    layer.temperatures.assign(temperatures)
    smooth = keras.layers.RNN(SmoothingCell(3, 0.3), return_sequences=True)
    expected = np.asarray(layer(smooth(np.stack(trajectories.answers).astype(np.float32))))
    ours = np.stack(trajectories.smoothed(0.3).calibrated(temperatures).answers)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
