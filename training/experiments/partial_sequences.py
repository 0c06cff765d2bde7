"""1a to 1c. Partial sequences: what a model says along the way, taught by one label at the end or at every timestep.

Sequences of 100 samples with 3 features and a binary label. In class 1 the first two features drift apart from some
moment on, slowly, under noise that remembers; the third feature says nothing. So the evidence grows along the way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation import accuracy_by_share
from training.experiments.exactness import streams_exactly
from training.experiments.experiment import Findings, Setup
from training.experiments.pictures import figure
from training.experiments.trajectories import Trajectories
from training.padding import check_labels, repeat_labels
from worker.errors import UsageError

FEATURES = ("left", "right", "other")
UNITS = (32, 16, 8)
MEMORY, BEGINS = 0.7, (0.05, 0.45)  # of the noise; of the drift, as shares of a sequence
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
PARAMETERS = {"lstm_1": 4608, "lstm_2": 3136, "lstm_3": 800, "probability": 9}  # 8,553 in all


def sequences(count: int, timesteps: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs `(count, timesteps, 3)` float32 and labels `(count,)`, half of them 1."""
    chance = np.random.default_rng(seed)
    labels = chance.permutation(np.arange(count) % 2)
    noise = chance.normal(size=(count, timesteps, 3))
    for t in range(1, timesteps):
        noise[:, t] += MEMORY * noise[:, t - 1]
    drift = drifts(chance.uniform(*BEGINS, size=count), timesteps) * labels[:, None]  # (count, timesteps)
    return (noise + np.stack([drift, -drift, 0 * drift], axis=-1)).astype(np.float32), labels


def drifts(begins: NDArray[np.float64], timesteps: int) -> NDArray[np.float64]:
    """How far the first feature is off, `(n, timesteps)`; the second is by as much on the other side."""
    return np.clip(np.linspace(0, 1, timesteps) - begins[:, None], 0, None) * 4.0


def exact(inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability of class 1 after each sample by Bayes' rule, `(n, timesteps)`: no answer can be better.

    What is new in a sample, given the one before, is noise of variance 1. The moment where a drift begins is not known,
    so the likelihood is a mean over such moments.
    """
    new = inputs[..., 0].astype(np.float64) - inputs[..., 1]  # (n, timesteps); both features tell the same of class 1
    new[:, 1:] -= MEMORY * (inputs[:, :-1, 0].astype(np.float64) - inputs[:, :-1, 1])
    steps = drifts(np.linspace(*BEGINS, 101), inputs.shape[1])  # (begins, timesteps)
    steps[:, 1:] -= MEMORY * steps[:, :-1].copy()
    ratio = np.exp(np.cumsum(new[:, None] * steps - steps**2, axis=2)).mean(axis=1)
    return ratio / (1 + ratio)


def network(
    units: tuple[int, int, int] = UNITS, *, per_timestep: bool, batch_shape: tuple[int | None, ...] = (None, None, 3)
) -> Any:
    """LSTM, LSTM, LSTM, Dense; 8,553 parameters with the units of the original.

    Args:
        units: of the three LSTM layers.
        per_timestep: the last LSTM returns sequences; otherwise the answer is one for each sequence.
        batch_shape: with a batch size in it the LSTMs are stateful: they go on where the last call ended.
    """
    from keras import Input, Sequential, layers

    stateful = batch_shape[0] is not None
    return Sequential(
        [
            Input(batch_shape=batch_shape),
            layers.LSTM(units[0], return_sequences=True, stateful=stateful, name="lstm_1"),
            layers.LeakyReLU(),
            layers.Dropout(0.2),
            layers.LSTM(units[1], return_sequences=True, stateful=stateful, name="lstm_2"),
            layers.Dropout(0.2),
            layers.LeakyReLU(),
            layers.LSTM(units[2], return_sequences=per_timestep, stateful=stateful, name="lstm_3"),
            layers.LeakyReLU(),
            layers.Dense(1, activation="sigmoid", name="probability"),
        ]
    )


def compile_model(model: Any, learning_rate: float = 5e-4, *, jit_compile: bool = False) -> None:
    """Adam with the decay that Keras 2 had as an argument, binary cross-entropy, and the four metrics."""
    import keras

    decayed = keras.optimizers.schedules.InverseTimeDecay(learning_rate, decay_steps=1, decay_rate=1e-4)
    model.compile(
        optimizer=keras.optimizers.Adam(decayed, beta_1=0.9, beta_2=0.999, epsilon=1e-8),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.Precision(name="precision"), keras.metrics.Recall(name="recall")],
        jit_compile=jit_compile,
    )


def train(setup: Setup, *, per_timestep: bool) -> Any:
    """The network, trained on sequences whose label is given once or at every timestep."""
    return _trained(setup.quick, setup.seed, per_timestep)


@lru_cache(maxsize=2)  # 1a, 1b and 1c look at the same two models
def _trained(quick: bool, seed: int, per_timestep: bool) -> Any:
    import keras

    timesteps = 30 if quick else 100
    inputs, labels = sequences(240 if quick else 600, timesteps, seed)
    keras.utils.set_random_seed(seed)
    model = network((8, 6, 4) if quick else UNITS, per_timestep=per_timestep)
    compile_model(model, 1e-2 if quick else 5e-4, jit_compile=not quick)  # by XLA: a third of the time
    targets = repeat_labels(labels, timesteps) if per_timestep else labels[:, None]
    model.fit(inputs, targets, batch_size=16, epochs=8 if quick else 30, verbose=0)
    model.jit_compile = False  # answers as Keras gives them where nothing is said
    return model


def held_out(setup: Setup) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sequences that no training saw."""
    return sequences(400, setup.pick(30, 100), setup.seed + 1)


def stateful_twin(model: Any, *, per_timestep: bool) -> Any:
    """The same weights in a model that takes one sample of one sequence at a time."""
    units = tuple(layer.units for layer in model.layers if hasattr(layer, "units"))[:3]
    twin = network(units, per_timestep=per_timestep, batch_shape=(1, 1, 3))
    twin.set_weights(model.get_weights())
    return twin


def along(twin: Any, sequence: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the twin says after each sample of a new sequence, `(timesteps,)`."""
    for layer in twin.layers:
        if hasattr(layer, "reset_states") or hasattr(layer, "reset_state"):
            layer.reset_state()
    return np.array([float(np.ravel(twin.predict_on_batch(sample[None, None]))[0]) for sample in sequence], np.float32)


def one_label_per_sequence(setup: Setup) -> Findings:
    """1a. Trained stateless, asked sample by sample: the last probability is right, the others were never taught."""
    findings = Findings()
    full = network(per_timestep=False)
    counted = {layer.name: layer.count_params() for layer in full.layers if layer.count_params()}
    findings.equal("parameters by layer", PARAMETERS, counted)
    findings.equal("parameters", 8553, full.count_params())

    model = train(setup, per_timestep=False)
    twin = stateful_twin(model, per_timestep=False)
    inputs, labels = held_out(setup)
    whole = model.predict(inputs, verbose=0)[:, 0]  # (n,)
    some = range(setup.pick(5, 20))
    trajectories = [along(twin, inputs[i]) for i in some]
    gap = max(abs(float(trajectories[i][-1] - whole[i])) for i in some)
    findings.at_most("last probability, sample by sample, against the whole sequence", 1e-6, gap, ".1e")
    metrics = binary_metrics(whole, labels)
    said = ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
    findings.at_least(f"whole sequences, held out ({said}): accuracy", 0.85, metrics["accuracy"])
    return findings


def one_label_per_timestep(setup: Setup) -> Findings:
    """1b. The label repeated for every timestep; the model streams through the artifact."""
    from worker import StreamingModel
    from worker.artifact import write_artifact

    findings = Findings()
    findings.equal("parameters, the same as 1a", 8553, network(per_timestep=True).count_params())
    inputs, labels = held_out(setup)
    try:
        check_labels(np.repeat(labels[:, None], inputs.shape[1], axis=1), inputs)
        message = "nothing was said"
    except UsageError as refused:
        message = str(refused)
    findings.equal("labels (m, timesteps) are told how to get their last axis", True, "labels[..., None]" in message)

    model = train(setup, per_timestep=True)
    write_artifact(model, setup.directory, features=FEATURES, classes=("drifts",))
    whole = model.predict(inputs, verbose=0)[..., 0]  # (n, timesteps)
    streaming = StreamingModel.load(setup.directory)
    states = streaming.initial_states(len(inputs))
    gap = 0.0
    for t in range(inputs.shape[1]):
        answers, states = streaming.step(inputs[:, t], states)
        gap = max(gap, float(np.abs(answers[:, 0] - whole[:, t]).max()))
    claim = "streamed sample by sample, against Keras over the whole sequence"
    streams_exactly(findings, claim, model, streaming, inputs, gap)
    findings.at_least("accuracy at the end, held out", 0.85, binary_metrics(whole[:, -1], labels)["accuracy"])
    return findings


def comparison(setup: Setup) -> Findings:
    """1c. Both ways of teaching on the same held-out sequences: the way to the answer is what differs.

    The data are made, so the best answer to every beginning is known. It moves with every bit of evidence: small total
    variation alone is no virtue, and a model that ignores what it sees has none at all.
    """
    findings = Findings()
    inputs, labels = held_out(setup)
    at_end, at_all = train(setup, per_timestep=False), train(setup, per_timestep=True)
    # A model with one answer for each sequence says what it would after every prefix when its last LSTM
    # returns sequences: the same weights, the same numbers.
    prefixes = network(tuple(at_end.get_layer(f"lstm_{i}").units for i in (1, 2, 3)), per_timestep=True)
    prefixes.set_weights(at_end.get_weights())
    taught = {"label at the end": prefixes, "label at every timestep": at_all}
    told = {way: model.predict(inputs, verbose=0)[..., 0] for way, model in taught.items()}
    found = {way: Trajectories(answers, labels) for way, answers in told.items()}
    end, every = found.values()
    shares = {way: accuracy_by_share(list(answers[..., None]), labels, SHARES) for way, answers in told.items()}
    by_end, by_every = shares.values()
    listed = [f"{share}: {by_end[share]:.2f} / {by_every[share]:.2f}" for share in by_end]
    best = exact(inputs)
    off = [float(np.abs(answers - best).mean()) for answers in told.values()]
    findings.at_most("distance from the exact probability, mean over timesteps (1b; limit: 1a)", off[0], off[1])
    findings.at_most("worst jump, mean (1b; limit: 1a)", end.worst_jump, every.worst_jump)
    variations = [one.total_variation for one in (*found.values(), Trajectories(best, labels))]
    findings.tell(
        "total variation of a trajectory, 1a / 1b / exact", " / ".join(f"{variation:.2f}" for variation in variations)
    )
    # Not claimed: where there is no evidence yet 1b stays near 0.5, as it should, and crosses it often.
    findings.tell("drops below 0.5 after the first crossing, mean, 1a / 1b", f"{end.drops:.2f} / {every.drops:.2f}")
    findings.at_most("calibration error over all timesteps (1b; limit: 1a)", end.calibration, every.calibration)
    claim = f"accuracy along the way, 1a / 1b ({', '.join(listed)}): 1b at the end (limit: 1a less 0.03)"
    findings.at_least(claim, by_end["100%"] - 0.03, by_every["100%"])
    findings.at_least("mean accuracy along the way (1b; limit: 1a)", _mean(by_end), _mean(by_every))
    findings.pictures["trajectories"] = _draw({**told, "exact": best}, labels)
    return findings


def binary_metrics(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of `(n,)` probabilities."""
    said, true = probabilities >= 0.5, labels == 1
    hits = float((said & true).sum())
    precision, recall = hits / max(said.sum(), 1), hits / max(true.sum(), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"accuracy": float((said == true).mean()), "precision": precision, "recall": recall, "F1": f1}


def _mean(shares: dict[str, float]) -> float:
    return float(np.mean(list(shares.values())))


def _draw(told: dict[str, NDArray[np.floating[Any]]], labels: NDArray[np.int64]) -> Any:
    """The same twelve held-out sequences, as each way of teaching tells them."""
    drawing, axes = figure(columns=len(told))
    shown = [*np.flatnonzero(labels == 1)[:6], *np.flatnonzero(labels == 0)[:6]]
    for axis, (way, answers) in zip(axes[0], told.items(), strict=True):
        for i in shown:
            axis.plot(answers[i], color="tab:red" if labels[i] else "tab:blue", linewidth=0.9)
        axis.set(title=way, xlabel="timestep (red drifts, blue does not)", ylabel="probability", ylim=(0, 1))
    return drawing
