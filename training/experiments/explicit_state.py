"""2c, 2d and 2f. The state as an input and an output: any batch, any cut, and what it is made of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.experiment import Findings, Setup
from training.experiments.streaming import FEATURES, TIMESTEPS, fit, sequences

UNITS = 32
States = tuple[NDArray[np.float32], NDArray[np.float32]]


def networks() -> tuple[Any, Any]:
    """A model to train, and one that takes h and c and gives them back; both of the same two layers.

    Returns:
        `(batch, any, 3)` -> `(batch, 1)`, and `(batch, any, 3)`, h, c -> `(batch, 1)`, h, c; h and c `(batch, 32)`.
    """
    from keras import Input, Model, layers

    lstm = layers.LSTM(UNITS, return_state=True, name="lstm")
    dense = layers.Dense(1, activation="sigmoid", name="probability")
    samples, h, c = Input((None, len(FEATURES))), Input((UNITS,)), Input((UNITS,))
    trained = Model(samples, dense(lstm(samples)[0]))
    output, next_h, next_c = lstm(samples, initial_state=[h, c])
    return trained, Model([samples, h, c], [dense(output), next_h, next_c])


def zeros(batch: int) -> States:
    """The state that sequences begin with."""
    return np.zeros((batch, UNITS), np.float32), np.zeros((batch, UNITS), np.float32)


def in_pieces(stepping: Any, inputs: NDArray[np.float32], cuts: list[int]) -> list[NDArray[np.float32]]:
    """Output, h and c after the last of the pieces that lie between the cuts."""
    states = zeros(len(inputs))
    outcome: list[NDArray[np.float32]] = []
    for begin, end in pairwise([0, *cuts, inputs.shape[1]]):
        outcome = [np.asarray(value) for value in stepping([inputs[:, begin:end], *states])]
        states = (outcome[1], outcome[2])
    return outcome


def explicit_state(setup: Setup) -> Findings:
    """2c. One weight set, two models; the stepping one takes any batch."""
    findings = Findings()
    trained, stepping = networks()
    fit(trained, setup)
    identities = [[id(variable) for variable in model.trainable_variables] for model in (trained, stepping)]
    findings.equal("both models have the same variables, not copies", True, identities[0] == identities[1])
    for batch in (1, 2, 33):
        inputs, _ = sequences(batch, setup.seed + batch)
        one_at_a_time = in_pieces(stepping, inputs, list(range(1, TIMESTEPS)))
        gap = float(np.abs(one_at_a_time[0] - np.asarray(trained(inputs))).max())
        findings.at_most(f"batch of {batch}: sample by sample against the whole sequence", 1e-6, gap, ".1e")
    return findings


def chunks(setup: Setup) -> Findings:
    """2d. Three timesteps and then four equal seven at once, and so does any other cut: in output and in state."""
    from worker import StreamingModel
    from worker.artifact import write_artifact

    findings = Findings()
    trained, stepping = networks()
    fit(trained, setup)
    inputs, _ = sequences(5, setup.seed + 1)
    whole = in_pieces(stepping, inputs, [])
    for name, one, other in zip(("output", "h", "c"), whole, in_pieces(stepping, inputs, [3]), strict=True):
        findings.at_most(f"3 + 4 against 7, {name}", 1e-6, float(np.abs(one - other).max()), ".1e")
    gap = max(
        float(np.abs(one - other).max())
        for cuts in all_cuts()
        for one, other in zip(whole, in_pieces(stepping, inputs, cuts), strict=True)
    )
    findings.at_most("all 64 cuts against 7, output and state", 1e-6, gap, ".1e")

    write_artifact(trained, setup.directory, features=FEATURES, classes=("first",))
    streaming = StreamingModel.load(setup.directory)
    answers, states = streaming.step(inputs, streaming.initial_states(len(inputs)))
    differing = 0
    for cuts in all_cuts():
        said, moved = [], streaming.initial_states(len(inputs))
        for begin, end in pairwise([0, *cuts, TIMESTEPS]):
            piece, moved = streaming.step(inputs[:, begin:end], moved)
            said.append(piece)
        differing += not (np.array_equal(np.concatenate(said, axis=1), answers) and np.array_equal(moved, states))
    findings.equal("artifact: cuts, of 64, that change one bit of an answer or a state", 0, differing)
    return findings


def all_cuts() -> list[list[int]]:
    """Every way to cut seven timesteps: between any two there is a cut or none."""
    return [[t for t in range(1, TIMESTEPS) if bits >> t & 1] for bits in range(0, 2**TIMESTEPS, 2)]


def what_a_state_is(setup: Setup) -> Findings:
    """2f. Parameters belong to the model and do not change with the streams; h and c belong to a stream."""
    from worker.artifact import write_artifact

    findings = Findings()
    trained, stepping = networks()
    fit(trained, setup)
    lstm = trained.get_layer("lstm")
    kernel, recurrent, bias = (np.asarray(variable) for variable in lstm.weights)
    shapes = {"kernel": (3, 128), "recurrent kernel": (32, 128), "bias": (128,)}
    findings.equal(
        "trained parameters", shapes, dict(zip(shapes, (kernel.shape, recurrent.shape, bias.shape), strict=True))
    )
    findings.equal("parameters: 4 gates x 32 units x (3 + 32 + 1)", 4608, lstm.count_params())

    inputs, _ = sequences(4, setup.seed + 2)
    _, h, c = in_pieces(stepping, inputs[:, :3], [])
    findings.equal("h and c of four streams", ((4, 32), (4, 32)), (h.shape, c.shape))
    by_hand = _step_by_hand(inputs[:, 3], h, c, kernel, recurrent, bias)
    by_keras = [np.asarray(value) for value in stepping([inputs[:, 3:4], h, c])[1:]]
    gap = max(float(np.abs(one - other).max()) for one, other in zip(by_hand, by_keras, strict=True))
    findings.at_most("one step by hand, gates cut from the parameters side by side, against Keras", 1e-6, gap, ".1e")

    manifest = write_artifact(trained, setup.directory, features=FEATURES, classes=("first",)).manifest
    layout = {slot.name: slot.shape for slot in manifest.state_layout}
    findings.equal("the artifact's state of a stream", {"hidden_state": (32,), "cell_state": (32,)}, layout)
    return findings


def _step_by_hand(
    x: NDArray[np.float32],
    h: NDArray[np.float32],
    c: NDArray[np.float32],
    kernel: NDArray[np.float32],
    recurrent: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> States:
    """One LSTM step (Hochreiter and Schmidhuber, with forget gate): h and c after the sample, each `(batch, units)`."""
    gates = x @ kernel + h @ recurrent + bias  # (batch, 4 * units): input, forget, candidate, output
    admit, keep, candidate, reveal = np.split(gates, 4, axis=1)
    moved = _sigmoid(keep) * c + _sigmoid(admit) * np.tanh(candidate)
    return _sigmoid(reveal) * np.tanh(moved), moved


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.float32(1) / (np.float32(1) + np.exp(-x))
