"""Training and decoding a ChainCRF: its likelihood and its best path, out of the filter's answers.

The filter's answers alpha and the transitions hold all of the field, because given the label of timestep t + 1 the
label of timestep t does not depend on what came later:

    p(y_t = i | y_(t+1) = j, x) = alpha_t[i] exp(transitions[i, j]) / sum over i' of the same
    p(y | x) = alpha_T[y_T] * product over t < T of p(y_t | y_(t+1), x)

So the loss is an ordinary Keras loss of labels and answers, and the best path can be had from published events.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TINY = 1e-37
PADDING = -1


def likelihood_loss(layer: Any) -> Callable[[Any, Any], Any]:
    """The negative log-likelihood of labels, as a loss for `compile`.

    Args:
        layer: the `ChainCRF` whose answers are the model's output.

    Returns:
        A function of labels `(batch, time)` or `(batch, time, 1)`, whole numbers, `PADDING` behind the end of a
        sequence, and answers `(batch, time, classes)`: for each timestep its share of the negative logarithm of the
        likelihood, `(batch, time)`, 0 behind the end. Their sum over time is the sequence's.
    """
    import keras

    ops = keras.ops

    def negative_log_likelihood(labels: Any, answers: Any) -> Any:
        labels = ops.cast(ops.reshape(labels, ops.shape(answers)[:2]), "int32")
        logs = ops.log(ops.maximum(answers, TINY))
        own = _chosen(logs, labels)
        following = labels[:, 1:]
        # (batch, time - 1, classes): the score of every label, given the one that follows
        into = ops.take(ops.transpose(layer.transitions), ops.maximum(following, 0), axis=0)
        linked = logs[:, :-1] + into
        link = _chosen(linked, labels[:, :-1]) - ops.logsumexp(linked, axis=-1)
        inside = ops.where(following == PADDING, own[:, :-1], link)
        shares = ops.concatenate([inside, own[:, -1:]], axis=1)
        return ops.where(labels == PADDING, 0.0, -shares)

    def _chosen(values: Any, labels: Any) -> Any:
        return ops.take_along_axis(values, ops.maximum(labels, 0)[..., None], axis=-1)[..., 0]

    return negative_log_likelihood


def best_path(answers: ArrayLike, transitions: ArrayLike) -> NDArray[np.int64]:
    """The most probable sequence of labels, once a sequence is complete (Viterbi 1967).

    Args:
        answers: `(time, classes)`, the filter's, in full or from the events of a sequence; time is at least 1.
        transitions: `(classes, classes)` of the layer.

    Returns:
        `(time,)` numbers of labels.
    """
    logs = np.log(np.maximum(np.asarray(answers, np.float64), TINY))
    scores = np.asarray(transitions, np.float64)
    best, came_from = np.zeros(logs.shape[1]), []
    for now in logs[:-1]:
        links = now[:, None] + scores  # (classes now, classes next)
        links = best[:, None] + links - np.logaddexp.reduce(links, axis=0)
        came_from.append(links.argmax(axis=0))
        best = links.max(axis=0)
    path = [int((best + logs[-1]).argmax())]
    for before in reversed(came_from):
        path.append(int(before[path[-1]]))
    return np.array(path[::-1], np.int64)


def enumerated(
    scores: NDArray[np.float32], start: NDArray[np.float32], transitions: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every sequence of labels there is, with its probability: the definition, for short sequences.

    Args:
        scores: `(time, classes)`.
        start: `(classes,)`.
        transitions: `(classes, classes)`.

    Returns:
        Probabilities `(classes ** time,)` and the sequences, `(classes ** time, time)`.
    """
    paths = np.array(list(product(range(len(start)), repeat=len(scores))))
    energy = start[paths[:, 0]] + scores[np.arange(len(scores)), paths].sum(axis=1, dtype=np.float64)
    energy = energy + transitions[paths[:, :-1], paths[:, 1:]].sum(axis=1, dtype=np.float64)
    weights = np.exp(energy - energy.max())
    return weights / weights.sum(), paths
