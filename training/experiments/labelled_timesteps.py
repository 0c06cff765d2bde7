"""4d. Labelling each timestep: an LSTM alone, and with a chain CRF behind it; forward filtering streams.

A machine goes round: idle, heating, running, cooling, idle. What its sensors say is noisy, and what can follow what is
not in them: a CRF has a score for every pair of neighbours, and learns it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.exactness import streams_exactly
from training.experiments.experiment import Findings, Setup
from training.experiments.pictures import figure

CLASSES = ("idle", "heating", "running", "cooling")
FEATURES = ("power", "temperature")
TIMESTEPS, STAY, NOISE = 40, 0.85, 1.0
LEVELS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])  # of the sensors, by class
Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def machines(count: int, seed: int) -> tuple[Floats, Numbers]:
    """Sensors `(count, 40, 2)` and labels `(count, 40)`; a machine stays as it is, or goes on to the next."""
    chance = np.random.default_rng(seed)
    moves = (chance.random((count, TIMESTEPS)) > STAY).astype(np.int64)
    labels = (chance.integers(0, len(CLASSES), (count, 1)) + np.cumsum(moves, axis=1)) % len(CLASSES)
    sensors = LEVELS[labels] + chance.normal(0.0, NOISE, (count, TIMESTEPS, len(FEATURES)))
    return sensors.astype(np.float32), labels


def network(units: int, *, crf: bool) -> Any:
    """LSTM, scores for each label, and either a softmax of each timestep's or the filter of a CRF."""
    from keras import Input, Sequential, layers

    from worker.model.layers.crf import ChainCRF

    return Sequential(
        [
            Input((None, len(FEATURES))),
            layers.LSTM(units, return_sequences=True, name="lstm"),
            layers.Dense(len(CLASSES), name="scores"),
            ChainCRF(len(CLASSES), name="labels") if crf else layers.Activation("softmax", name="labels"),
        ]
    )


def trained(setup: Setup, *, crf: bool) -> Any:
    """A network, fitted to labels of timesteps: by their likelihood as a sequence, or each by itself."""
    import keras

    from training.crf import likelihood_loss

    keras.utils.set_random_seed(setup.seed)
    model = network(setup.pick(8, 16), crf=crf)
    loss = likelihood_loss(model.get_layer("labels")) if crf else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(setup.pick(2e-2, 1e-2), clipnorm=1.0), loss)
    sensors, labels = machines(setup.pick(240, 1_000), setup.seed)
    model.fit(sensors, labels, batch_size=32, epochs=setup.pick(8, 25), verbose=0)
    return model


def impossible(labels: Numbers) -> int:
    """Steps that the machine cannot make: neither staying nor going on to the next."""
    return int((np.diff(labels, axis=1) % len(CLASSES) > 1).sum())


def labelled_timesteps(setup: Setup) -> Findings:
    """Train both, compare them, hold the CRF to its definition, and stream it."""
    from training.crf import best_path

    findings = Findings()
    alone, model = trained(setup, crf=False), trained(setup, crf=True)
    more = model.count_params() - alone.count_params()
    findings.equal("parameters of the CRF: 4 to begin with, 4 x 4 for neighbours", 20, more)
    layer = model.get_layer("labels")
    transitions = np.asarray(layer.transitions)
    sensors, labels = machines(setup.pick(60, 300), setup.seed + 1)
    _hold_to_definition(findings, model, sensors[:3, :6], labels[:3, :6])

    by_itself = alone.predict(sensors, verbose=0).argmax(axis=-1)
    filtered = model.predict(sensors, verbose=0)
    live = filtered.argmax(axis=-1)
    decoded = np.array([best_path(answers, transitions) for answers in filtered])
    findings.tell("accuracy on held-out timesteps, LSTM alone", f"{(by_itself == labels).mean():.3f}")
    findings.at_least("accuracy, LSTM and CRF, filtered", 0.75, float((live == labels).mean()))
    findings.at_least(
        "accuracy, decoded once a sequence is complete (limit: filtered)",
        float((live == labels).mean()),
        float((decoded == labels).mean()),
    )
    steps = impossible(by_itself)
    findings.tell("steps that the machine cannot make, LSTM alone / filtered", f"{steps} / {impossible(live)}")
    findings.at_most("the same, decoded (limit: half of the LSTM's alone)", steps / 2, impossible(decoded), ".0f")
    _stream(findings, setup, model, sensors, filtered)
    findings.pictures["labels"] = _picture(filtered[0], labels[0], decoded[0])
    return findings


def _hold_to_definition(findings: Findings, model: Any, sensors: Floats, labels: Numbers) -> None:
    """Compare filter, likelihood and best path with the enumeration of all sequences of labels."""
    import keras

    from training.crf import best_path, enumerated, likelihood_loss

    layer = model.get_layer("labels")
    start, transitions = np.asarray(layer.start), np.asarray(layer.transitions)
    scores = np.asarray(keras.Sequential(model.layers[:-1])(sensors))  # (n, time, classes)
    answers = np.asarray(model(sensors))
    losses = np.asarray(likelihood_loss(layer)(labels, answers)).sum(axis=1)
    off, gaps, same = 0.0, [], 0
    for k, own in enumerate(scores):
        for t in range(1, len(own) + 1):
            chances, paths = enumerated(own[:t], start, transitions)
            marginal = np.bincount(paths[:, -1], chances, len(start))
            off = max(off, float(np.abs(marginal - answers[k, t - 1]).max()))
        right = (paths == labels[k]).all(axis=1)  # of the whole sequence, the last that was enumerated
        gaps.append(abs(float(np.log(chances[right][0])) + float(losses[k])))
        same += bool((best_path(answers[k], transitions) == paths[chances.argmax()]).all())
    findings.at_most("filter against the enumeration of all labellings, every prefix", 1e-5, off, ".1e")
    findings.at_most("log-likelihood against it", 1e-4, max(gaps), ".1e")
    findings.equal("best paths that are the most probable of all", len(scores), same)


def _stream(findings: Findings, setup: Setup, model: Any, sensors: Floats, filtered: Floats) -> None:
    """Export, and compare the worker's engine with Keras over whole sequences."""
    from worker import StreamingModel
    from worker.artifact import write_artifact

    write_artifact(model, setup.directory, features=FEATURES, classes=CLASSES)
    streaming = StreamingModel.load(setup.directory)
    gap = float(np.abs(np.stack(streaming.run_all(sensors)) - filtered).max())
    streams_exactly(findings, "streamed, against Keras", model, streaming, sensors, gap)
    slots = {slot.name: slot.shape for slot in streaming.manifest.state_layout if slot.layer == "labels"}
    findings.equal("state of the CRF, of a stream", {"alpha": (len(CLASSES),)}, slots)


def _picture(answers: Floats, labels: Numbers, decoded: Numbers) -> Any:
    """The filter's answers along a sequence, and below them the right labels and the decoded ones."""
    drawing, axes = figure(2, 1, 2.2)
    for number, name in enumerate(CLASSES):
        axes[0, 0].plot(answers[:, number], label=name)
    axes[0, 0].set(ylabel="filtered probability", ylim=(0, 1.02))
    axes[0, 0].legend(ncols=len(CLASSES), loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False)
    axes[1, 0].step(range(TIMESTEPS), labels, where="mid", color="black", label="right")
    axes[1, 0].step(range(TIMESTEPS), decoded, where="mid", color="tab:red", linestyle="--", label="decoded at the end")
    axes[1, 0].set_yticks(range(len(CLASSES)), CLASSES)
    axes[1, 0].set(xlabel="timestep")
    axes[1, 0].legend(frameon=False)
    return drawing
