"""The model as a function over blocks: `(T, B, features)` samples and `(B, state_size)` states in, answers out.

A block runs as one XLA executable, compiled for each of a short list of widths B. Batching must be invisible in the
output, so
- the depth T is the number of turns of a loop inside the executable, given at every call: all depths run the same
  code (compiled apart, a loop of one turn was fused in another way, and very small models changed in the last bit);
- a width, or a deeper loop, is offered only after it gave, on this CPU, bit for bit the rows that the narrowest width
  gives timestep by timestep. From 64 on,
  XLA's products add up a row in the same order whatever the other rows are; below, it may choose other kernels, and
  for a single row it does. The proof takes nothing of that for granted.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import structlog
import tensorflow as tf
from numpy.typing import NDArray

from worker.artifact import Artifact
from worker.decision import DecisionRule
from worker.errors import ArtifactRefused, NotStreamable
from worker.model.executable import Block, Flags, Floats, States, compile_block
from worker.model.graph import StepGraph
from worker.model.proof import NARROWEST, agrees, side_by_side
from worker.model.timestep import Timestep

Bucket: TypeAlias = tuple[int, int]

DEPTHS = (1, 2, 4)
# For few streams that have many samples: a call costs as much as thirty timesteps of few streams. Compiled apart, as
# every call hands over arrays of the deepest depth.
DEEP_DEPTHS = (16, 64, 256)
DEEP_WIDTHS = (2, 8, NARROWEST)
LARGEST_CONSTANT = 16_384  # elements of a weight that becomes part of every executable
CALLS_TIMED = 10
COLD = 2.0
# In the order in which they are compiled: first those that make the largest difference to a backlog.
WIDTHS = (NARROWEST, 1024, 256, 512, 128, 2048)

log = structlog.get_logger(__name__)


class StepModel:
    """A Keras model that is advanced sample by sample, for many streams at once.

    `run_block` belongs to one thread; `start_compiling` adds buckets from another one meanwhile.

    Attributes:
        features: width of one sample.
        outputs: width of one answer, with the column of decisions where there is a rule.
        probabilities: width of the model's own answer.
        layout: where each layer's state is in the flat state of a stream.
        state_size: elements per stream.
        initial_state: `(state_size,)`, the state before the first sample; its type is that of all states.
        causal: the Keras model answers every timestep; otherwise it answers a whole sequence, and stepping gives
            its answer for the sequence so far.
        call_cost: what a call costs before its first timestep, in timesteps of one stream, as measured here. Only the
            choice of blocks depends on it.
        mean_of_none: Keras' answer is NaN as long as all timesteps are masked, and the stepped one is a number.

    Args:
        model: a built Sequential or functional Keras model. Its weights are copied.
        state_dtype: what states are kept in between two timesteps, see `worker.artifact`; a step computes in float32.
        rule: for decisions, or None.

    Raises:
        NotStreamable: names the layer, the reason and the remedy; or rows of a block influence each other.
    """

    def __init__(self, model: Any, state_dtype: str = "float32", rule: DecisionRule | None = None) -> None:
        graph = StepGraph(model)
        self._step = step = Timestep(graph, state_dtype, rule)
        self.features, self.probabilities, self.outputs = graph.features, graph.outputs, step.outputs
        self.causal, self.mean_of_none = graph.causal, graph.mean_of_none
        self.layout, self.state_size, self.initial_state = step.layout, step.state_size, step.initial_state
        self._stop = threading.Event()
        self._compiler: threading.Thread | None = None
        reference = self._proven(model, LARGEST_CONSTANT) or self._proven(model, 0)
        if reference is None:
            raise NotStreamable(
                f"on this CPU a stream's answer depends on its place in a block of {NARROWEST}: "
                "its output could not be reproduced after a restart. Run it on another machine, or report the model."
            )
        self.call_cost = _call_cost(reference, self.features, self.initial_state)
        self._blocks: dict[int, Block] = {NARROWEST: reference}
        self._deep: dict[int, Block] = {}

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        """Path and class of every layer call, in the order of a step."""
        return tuple((call.path, type(call.rule.layer).__name__) for call in self._step.graph.calls)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The shapes `(T, B)` that `run_block` takes now, in ascending order."""
        shallow = ((depth, width) for depth in DEPTHS for width in sorted(self._blocks))
        return (*shallow, *((depth, width) for depth in DEEP_DEPTHS for width in sorted(self._deep)))

    def run_block(self, inputs: Floats, mask: Flags, reset: Flags, states: States) -> tuple[Floats, States]:
        """Advance the streams of a block; every argument is only read.

        Args:
            inputs: `(T, B, features)` float32; `(T, B)` is one of `buckets`.
            mask: `(T, B)` bool; where false the state stays as it is and the output means nothing.
            reset: `(T, B)` bool; where true the state is the initial one before the step.
            states: `(B, state_size)` of the states' type.

        Returns:
            Answers `(T, B, outputs)` float32 and states `(B, state_size)`, both read-only.
        """
        depth, width = mask.shape
        block = (self._deep if depth > DEPTHS[-1] else self._blocks).get(width)
        assert block is not None, f"no bucket {mask.shape}, only {self.buckets}"
        assert depth in DEPTHS + DEEP_DEPTHS, f"no bucket {mask.shape}, only {self.buckets}"
        return block(inputs, mask, reset, states)

    def add_width(self, width: int) -> bool:
        """Compile a width, prove it, and offer it; false when its rows differ from the narrowest one's."""
        if width in self._blocks:
            return True
        block = self._compiled(width)
        if not agrees(block, self._blocks[NARROWEST], width, self.features, self.initial_state):
            return False
        self._blocks = {**self._blocks, width: block}  # a new dict: the other thread reads either
        return True

    def add_deep(self, width: int) -> bool:
        """Compile the deep buckets of a width, prove them, and offer them; false when single timesteps differ."""
        if width not in self._deep:
            block, depth = self._compiled(width, DEEP_DEPTHS), DEEP_DEPTHS[0]
            whole = side_by_side(block, width)
            if not agrees(whole, self._blocks[NARROWEST], NARROWEST, self.features, self.initial_state, depth):
                return False
            self._deep = {**self._deep, width: block}
        return True

    def start_compiling(self) -> None:
        """Compile the other buckets on a daemon thread, the most useful first."""
        if self._compiler is None:
            self._stop.clear()
            self._compiler = threading.Thread(target=self._compile_all, name="compile-buckets", daemon=True)
            self._compiler.start()

    def stop_compiling(self) -> None:
        """End the thread; waits for the bucket that it is at."""
        self._stop.set()
        if self._compiler is not None:
            self._compiler.join()
            self._compiler = None

    def _compile_all(self) -> None:
        for width in WIDTHS:
            if self._stop.is_set():
                return
            if not self.add_width(width):
                log.warning("width_dropped", width=width, reason=f"its rows are not bit for bit those of {NARROWEST}")
        for width in DEEP_WIDTHS:
            if self._stop.is_set():
                return
            if not self.add_deep(width):
                log.info("deep_width_dropped", width=width, reason=f"its rows are not bit for bit those of {NARROWEST}")

    def _proven(self, model: Any, largest_constant: int) -> Block | None:
        """The narrowest width, with weights of so many elements as constants; None when its rows' places show.

        Each argument costs a call 2 us, and large constants cost every executable memory (350 MiB in all for 3 x LSTM
        256). But XLA may rewrite what has constants: with them, and only with them, places show in an LSTM of one unit.
        """
        weights = [(variable, variable.numpy()) for variable in model.variables]
        self._weights = [(variable, w if w.size <= largest_constant else tf.constant(w)) for variable, w in weights]
        block = self._compiled(NARROWEST)
        return block if agrees(block, block, NARROWEST, self.features, self.initial_state) else None

    def _compiled(self, width: int, depths: Sequence[int] = DEPTHS) -> Block:
        return compile_block(self._step, self._weights, width, depths)


def load_step_model(artifact: Artifact) -> StepModel:
    """Open an artifact's model, verified, make it steppable, and hold a spot of it against Keras on this machine.

    Raises:
        ArtifactRefused: the file is not the exported one, Keras cannot open it safely, or stepping and Keras differ
            by more here than the certificate allows.
        NotStreamable: this version of cellstream cannot step it.
    """
    from worker.model.keras_file import open_model
    from worker.model.parity import spot

    keras_model = open_model(artifact.read_model(), str(artifact.model_path))
    manifest = artifact.manifest
    model = StepModel(keras_model, manifest.state_dtype, manifest.decision)
    stepped = (model.layout, model.features, model.probabilities)
    if stepped != (manifest.state_layout, len(manifest.features), len(manifest.classes)):
        raise ArtifactRefused(
            f"{artifact.directory}: the model steps with another state layout or width than its manifest says: "
            "this cellstream's rules differ from those of the one that exported it. Export the model again."
        )
    difference, tolerance = spot(keras_model, model), manifest.tolerance
    if not difference <= tolerance:
        raise ArtifactRefused(
            f"{artifact.directory}: on this machine stepping differs from Keras by {difference:.2g}, its certificate "
            f"allows {tolerance:.2g}. `cellstream check` makes the whole comparison; export the model again with this "
            "machine's libraries, or run it where it was exported."
        )
    return model


def _call_cost(block: Block, features: int, initial: NDArray[Any]) -> float:
    """The time of a call without its timesteps over that of a timestep of one stream: some hundreds, or nearly 0."""
    states = np.tile(initial, (NARROWEST, 1))
    seconds = dict.fromkeys((DEPTHS[0], DEPTHS[-1]), math.inf)
    for _ in range(CALLS_TIMED):
        for depth in seconds:
            flags = np.zeros((depth, NARROWEST), np.bool_)
            begun = time.perf_counter()
            block(np.zeros((*flags.shape, features), np.float32), ~flags, flags, states)
            seconds[depth] = min(seconds[depth], time.perf_counter() - begun)
    shallow, deep = seconds.values()
    timestep = max((deep - shallow) / (DEPTHS[-1] - DEPTHS[0]), 1e-9)
    return max(0.0, shallow / timestep - 1) * NARROWEST * COLD
