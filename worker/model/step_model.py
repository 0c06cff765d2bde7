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
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import structlog
import tensorflow as tf
from numpy.typing import NDArray

from worker.artifact import Artifact, StateSlot
from worker.decision import DecisionRule
from worker.errors import ArtifactRefused, NotStreamable
from worker.model.deciding import PATH, Deciding
from worker.model.graph import StepGraph
from worker.model.layers import Slot
from worker.model.proof import NARROWEST, agrees, side_by_side
from worker.model.tensorflow_setup import quiet_compiler

Floats: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]
Bucket: TypeAlias = tuple[int, int]
States: TypeAlias = NDArray[Any]  # of the state's type
Block: TypeAlias = Callable[[Floats, Flags, Flags, States], tuple[Floats, States]]

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
        self._graph = StepGraph(model)
        self._deciding = None if rule is None else Deciding(rule)
        self.features, self.probabilities, self.causal = self._graph.features, self._graph.outputs, self._graph.causal
        self.outputs = self.probabilities + (self._deciding is not None)
        self.mean_of_none = self._graph.mean_of_none
        slots = list(self._graph.slots)
        if self._deciding is not None:
            slots += [(PATH, slot) for slot in self._deciding.slots]
        self.layout = _layout(slots)
        self.state_size = sum(slot.size for slot in self.layout)
        pieces = [slot.initial.reshape(-1) for _, slot in slots]
        self._state_dtype = tf.as_dtype(state_dtype)
        self.initial_state = np.concatenate([*pieces, np.zeros(0)]).astype(self._state_dtype.as_numpy_dtype)
        if state_dtype != "float32":
            _require_roundable(slots, state_dtype)
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
        return tuple((call.path, type(call.rule.layer).__name__) for call in self._graph.calls)

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
        block = self._compile(width)
        if not agrees(block, self._blocks[NARROWEST], width, self.features, self.initial_state):
            return False
        self._blocks = {**self._blocks, width: block}  # a new dict: the other thread reads either
        return True

    def add_deep(self, width: int) -> bool:
        """Compile the deep buckets of a width, prove them, and offer them; false when single timesteps differ."""
        if width not in self._deep:
            block, depth = self._compile(width, DEEP_DEPTHS), DEEP_DEPTHS[0]
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
        block = self._compile(NARROWEST)
        return block if agrees(block, block, NARROWEST, self.features, self.initial_state) else None

    def _compile(self, width: int, depths: tuple[int, ...] = DEPTHS) -> Block:
        """The executable of one width, for any of the depths, compiled before this returns."""
        deepest = depths[-1]
        specs = [
            tf.TensorSpec((deepest, width, self.features), tf.float32),
            tf.TensorSpec((deepest, width), tf.bool),
            tf.TensorSpec((deepest, width), tf.bool),
            tf.TensorSpec((width, self.state_size), self._state_dtype),
            tf.TensorSpec((), tf.int32),
        ]
        traced = tf.function(self._scan, jit_compile=True, autograph=False).get_concrete_function(*specs)
        turns = {depth: tf.constant(depth) for depth in depths}

        def run(inputs: Floats, mask: Flags, reset: Flags, states: States) -> tuple[Floats, States]:
            depth = len(mask)
            block = [tf.constant(_deepen(part, deepest)) for part in (inputs, mask, reset)]
            # Below the concrete function, which would look at every argument anew: 40 us less.
            answers, moved = traced.inference_fn.call_preflattened(
                [*block, tf.constant(states), turns[depth], *traced.captured_inputs]
            )
            return np.asarray(memoryview(answers))[:depth], _array_of(moved)

        with quiet_compiler():
            run(*(np.zeros(spec.shape, spec.dtype.as_numpy_dtype) for spec in specs[:4]))
        return run

    def _scan(self, inputs: Any, mask: Any, reset: Any, states: Any, depth: Any) -> tuple[Any, Any]:
        """Trace a block: as many steps as `depth` says, of at most as many as `inputs` has."""
        deepest = inputs.shape[0]
        answers = tf.TensorArray(tf.float32, size=deepest, element_shape=(inputs.shape[1], self.outputs))

        def body(t: Any, states: Any, answers: Any) -> tuple[Any, Any, Any]:
            answer, states = self._step(inputs[t], mask[t], reset[t], states)
            return t + 1, states, answers.write(t, answer)

        # The weights are constants of this model from here on, whatever happens to the Keras model.
        with keras.StatelessScope(state_mapping=[(v, tf.convert_to_tensor(w)) for v, w in self._weights]):
            _, states, answers = tf.while_loop(
                lambda t, *_: t < depth, body, (0, states, answers), maximum_iterations=deepest
            )
        return answers.stack(), states

    def _step(self, samples: Any, mask: Any, reset: Any, states: Any) -> tuple[Any, Any]:
        """One timestep of a block: `(B, features)`, `(B,)`, `(B,)`, `(B, S)` -> `(B, outputs)`, `(B, S)`."""
        before = tf.where(reset[:, None], tf.constant(self.initial_state), states)
        given = tf.cast(before, tf.float32)
        pieces = [
            tf.reshape(given[:, slot.offset : slot.offset + slot.size], (-1, *slot.shape)) for slot in self.layout
        ]
        own = len(self._graph.slots)
        answer, moved = self._graph.step(samples, pieces[:own])
        if self._deciding is not None:
            decided, remembered = self._deciding.step(answer, pieces[own:])
            answer, moved = tf.concat([answer, decided], axis=1), [*moved, *remembered]
        flat = [tf.reshape(piece, (-1, slot.size)) for piece, slot in zip(moved, self.layout, strict=True)]
        # The loop around this carries states in their type: they are rounded after every timestep, however blocks cut.
        after = tf.cast(tf.concat(flat, axis=1), self._state_dtype) if flat else before
        return answer, tf.where(mask[:, None], after, before)


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


def _array_of(tensor: Any) -> NDArray[Any]:
    """A view where Python's buffers know the type; they do not know bfloat16."""
    return tensor.numpy() if tensor.dtype == tf.bfloat16 else np.asarray(memoryview(tensor))


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


def _require_roundable(slots: Sequence[tuple[str, Slot]], state_dtype: str) -> None:
    """Refuse to round what counts or sums up."""
    exact = sorted({path for path, slot in slots if slot.exact})
    if exact:
        raise NotStreamable(
            f"layer '{exact[0]}': it counts or sums up over the whole sequence, and in {state_dtype} that would go "
            "wrong after some hundred timesteps. Keep its model's states in float32."
        )


def _deepen(part: NDArray[Any], deepest: int) -> NDArray[Any]:
    """`(T, B, ...)` -> `(deepest, B, ...)`; what lies below T is never read."""
    if len(part) == deepest:
        return part
    deep = np.empty((deepest, *part.shape[1:]), part.dtype)
    deep[: len(part)] = part
    return deep


def _layout(slots: Sequence[tuple[str, Slot]]) -> tuple[StateSlot, ...]:
    """Place slots one behind the other."""
    layout: list[StateSlot] = []
    offset = 0
    for path, slot in slots:
        layout.append(StateSlot(path, slot.name, slot.initial.shape, offset))
        offset += slot.initial.size
    return tuple(layout)
