"""Blocks as XLA executables: one for each width, the number of timesteps an argument of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.model.tensorflow_setup import quiet_compiler
from worker.model.timestep import Timestep

Floats: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]
States: TypeAlias = NDArray[Any]  # of the state's type
Block: TypeAlias = Callable[[Floats, Flags, Flags, States], tuple[Floats, States]]
Weight: TypeAlias = tuple[Any, Any]


def compile_block(step: Timestep, weights: Sequence[Weight], width: int, depths: Sequence[int]) -> Block:
    """The executable of one width, for any of the depths, compiled before this returns.

    Args:
        step: what every turn of its loop does.
        weights: the Keras model's variables, each with what it is here: an array becomes a constant of the executable,
            a tensor an argument.
        width: streams.
        depths: timesteps, ascending.
    """
    deepest = depths[-1]
    specs = [
        tf.TensorSpec((deepest, width, step.graph.features), tf.float32),
        tf.TensorSpec((deepest, width), tf.bool),
        tf.TensorSpec((deepest, width), tf.bool),
        tf.TensorSpec((width, step.state_size), step.state_dtype),
        tf.TensorSpec((), tf.int32),
    ]

    def scan(inputs: Any, mask: Any, reset: Any, states: Any, depth: Any) -> tuple[Any, Any]:
        """As many steps as `depth` says."""
        answers = tf.TensorArray(tf.float32, size=deepest, element_shape=(width, step.outputs))

        def body(t: Any, states: Any, answers: Any) -> tuple[Any, Any, Any]:
            answer, states = step(inputs[t], mask[t], reset[t], states)
            return t + 1, states, answers.write(t, answer)

        # The weights are constants of this model from here on, whatever happens to the Keras model.
        with keras.StatelessScope(state_mapping=[(v, tf.convert_to_tensor(w)) for v, w in weights]):
            _, states, answers = tf.while_loop(
                lambda t, *_: t < depth, body, (0, states, answers), maximum_iterations=deepest
            )
        return answers.stack(), states

    traced = tf.function(scan, jit_compile=True, autograph=False).get_concrete_function(*specs)
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


def _array_of(tensor: Any) -> NDArray[Any]:
    """A view where Python's buffers know the type; they do not know bfloat16."""
    return tensor.numpy() if tensor.dtype == tf.bfloat16 else np.asarray(memoryview(tensor))


def _deepen(part: NDArray[Any], deepest: int) -> NDArray[Any]:
    """`(T, B, ...)` -> `(deepest, B, ...)`; what lies below T is never read."""
    if len(part) == deepest:
        return part
    deep = np.empty((deepest, *part.shape[1:]), part.dtype)
    deep[: len(part)] = part
    return deep
