"""1d. Reviews: one label for each review against the label at every word.

The IMDB reviews come through Keras' own loader. Where nothing can be downloaded, and in the quick form, a small
corpus is made in the loader's format: lists of word numbers, 1 where a review begins, small numbers for frequent words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation import accuracy_by_share
from training.experiments.experiment import Findings, Setup
from training.experiments.trajectories import Trajectories
from training.padding import repeat_labels

# Reviews of word numbers, and labels: 1 is a good review.
Part = tuple[Sequence[list[int]], NDArray[np.int64]]
FIRST_WORD = 4  # 0 pads, 1 begins, 2 is a word outside of the vocabulary, 3 is not used: as in the loader


def corpus(count: int, words: int, seed: int) -> tuple[Part, Part]:
    """Made reviews, for training and for test, as `keras.datasets.imdb.load_data` returns its own.

    Words come as often as in a language. One in eight judges, and four of five that judge agree with the label.
    """
    chance = np.random.default_rng(seed)
    parts = []
    for part_count in (count, count // 2):
        labels = chance.permutation(np.arange(part_count) % 2)
        reviews = []
        for label in labels:
            length = int(chance.integers(40, 260))
            numbers = FIRST_WORD + chance.zipf(1.3, length) % (words - FIRST_WORD - 40)
            judges = chance.random(length) < 1 / 8
            good = (chance.random(length) < 0.8) == bool(label)
            numbers[judges] = words - 40 + 20 * good[judges] + chance.integers(0, 20, judges.sum())
            reviews.append([1, *map(int, numbers)])
        parts.append((reviews, labels))
    return parts[0], parts[1]


def load(setup: Setup, words: int) -> tuple[str, Part, Part]:
    """Which reviews these are, those for training and those for test."""
    if setup.quick:
        return "made reviews", *corpus(512, words, setup.seed)
    import keras

    try:
        train, test = keras.datasets.imdb.load_data(num_words=words)
    except Exception as unreachable:  # noqa: BLE001  (Keras raises a bare Exception for a failed download)
        reason = type(unreachable.__context__ or unreachable).__name__
        return f"made reviews (IMDB could not be loaded: {reason})", *corpus(2_000, words, setup.seed)
    return "IMDB reviews", train, test


def network(words: int, width: int, units: int, *, per_timestep: bool) -> Any:
    """Embedding, LSTM, Dense; words that pad are masked, so that a review counts as long as it is."""
    from keras import Input, Sequential, layers

    return Sequential(
        [
            Input((None,), dtype="int32"),
            layers.Embedding(words, width, mask_zero=True),
            layers.LSTM(units, return_sequences=per_timestep),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def reviews(setup: Setup) -> Findings:
    """Train the pair, and read held-out reviews word by word."""
    import keras

    findings = Findings()
    parameters = network(10_000, 128, 64, per_timestep=True).count_params()
    findings.equal("parameters", 10_000 * 128 + 4 * 64 * (128 + 64 + 1) + 65, parameters)
    words, width, units, length = setup.pick((300, 16, 12, 60), (10_000, 128, 64, 200))
    kind, train, test = load(setup, words)
    inputs, held_out = (_padded(part[0], length) for part in (train, test))
    labels = np.asarray(train[1], np.int64)
    told = {}
    for per_timestep in (False, True):
        keras.utils.set_random_seed(setup.seed)
        model = network(words, width, units, per_timestep=per_timestep)
        optimizer = keras.optimizers.RMSprop(setup.pick(1e-2, 1e-3))
        model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], jit_compile=not setup.quick)
        targets = repeat_labels(labels, length) if per_timestep else labels[:, None]
        epochs, batch = setup.pick((6, 16), (10, 128))
        model.fit(inputs, targets, batch_size=batch, epochs=epochs, validation_split=0.3, verbose=0)
        every = network(words, width, units, per_timestep=True)  # the same weights, an answer after each word
        every.set_weights(model.get_weights())
        told[per_timestep] = every.predict(held_out[:1_000], batch_size=256, verbose=0)[..., 0]
    true = np.asarray(test[1], np.int64)[:1_000]
    once, always = (Trajectories(answers, true) for answers in told.values())
    early, late = (accuracy_by_share(list(answers[..., None]), true) for answers in told.values())
    findings.tell("read were", kind)
    variation = f"{once.total_variation:.2f} / {always.total_variation:.2f}"
    findings.tell("total variation, label per review / per word", variation)
    findings.at_least("accuracy at the end, label per word", 0.8, late["100%"])
    findings.at_least(
        "accuracy at the end, label per word (limit: per review less 0.05)", early["100%"] - 0.05, late["100%"]
    )
    findings.tell("accuracy along the way, label per review", _listed(early))
    findings.tell("accuracy along the way, label per word", _listed(late))
    return findings


def _padded(texts: Sequence[list[int]], length: int) -> NDArray[np.int32]:
    """The first words of each review, `(n, length)`; the end is padded with 0."""
    import keras

    return keras.utils.pad_sequences(texts, maxlen=length, padding="post", truncating="post")


def _listed(accuracy: dict[str, float]) -> str:
    return ", ".join(f"{share}: {value:.2f}" for share, value in accuracy.items())
