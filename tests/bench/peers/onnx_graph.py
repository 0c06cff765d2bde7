"""The peers' LSTM as a graph for ONNX Runtime: one timestep of one stream, its state an input and an output.

onnx_graph.py WEIGHTS OUT      in the environment that `make peers` makes
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Of both: the highest that ONNX Runtime 1.22 reads.
OPSET, IR = 21, 10


def main(weights: str, out: str) -> None:
    """Inputs `x` (1, features) and `state` (1, state size); outputs `probability` (1, 1) and `after`, as `state`."""
    flat = Path(weights).read_bytes()
    features, layers, slope = struct.unpack_from("<iif", flat)
    nodes, constants, at, inputs, x, widths, afters = [], [], 12, features, "x", [], []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(flat, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += found.nbytes
        return found

    def node(operation: str, reads: list[str], writes: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(operation, reads, writes, **attributes))
        return writes[0]

    for layer in range(layers):
        (width,) = struct.unpack_from("<i", flat, at)
        at += 4
        widths += [width, width]
        h, c = f"h{layer}", f"c{layer}"
        both = np.concatenate([take(inputs, 4 * width), take(width, 4 * width)])
        bias = take(4 * width)
        order = np.concatenate([np.arange(gate * width, (gate + 1) * width) for gate in (0, 1, 3, 2)])
        node("Concat", [x, h], [f"both{layer}"], axis=1)
        named = constant(f"weights{layer}", both[:, order]), constant(f"bias{layer}", bias[order])
        node("Gemm", [f"both{layer}", *named], [f"z{layer}"])
        # The three sigmoids of Keras' i, f, o side by side, so that one call computes them.
        sizes = constant(f"gates{layer}", np.array([3 * width, width], np.int64))
        node("Split", [f"z{layer}", sizes], [f"sigmoids{layer}", f"tanh{layer}"], axis=1)
        node("Sigmoid", [f"sigmoids{layer}"], [f"ifo{layer}"])
        node("Split", [f"ifo{layer}"], [f"i{layer}", f"f{layer}", f"o{layer}"], axis=1, num_outputs=3)
        node("Tanh", [f"tanh{layer}"], [f"g{layer}"])
        node("Mul", [f"f{layer}", c], [f"kept{layer}"])
        node("Mul", [f"i{layer}", f"g{layer}"], [f"entered{layer}"])
        node("Add", [f"kept{layer}", f"entered{layer}"], [f"nextc{layer}"])
        node("Tanh", [f"nextc{layer}"], [f"squashed{layer}"])
        node("Mul", [f"o{layer}", f"squashed{layer}"], [f"nexth{layer}"])
        x = node("LeakyRelu", [f"nexth{layer}"], [f"x{layer}"], alpha=slope)
        afters += [f"nexth{layer}", f"nextc{layer}"]
        inputs = width
    pieces = [f"{kind}{layer}" for layer in range(layers) for kind in "hc"]
    sizes = constant("widths", np.array(widths, np.int64))
    nodes.insert(0, helper.make_node("Split", ["state", sizes], pieces, axis=1))
    node("Concat", afters, ["after"], axis=1)
    node("Gemm", [x, constant("weights", take(inputs, 1)), constant("bias", take(1))], ["logit"])
    node("Sigmoid", ["logit"], ["probability"])
    row = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", features), ("state", sum(widths)), ("probability", 1), ("after", sum(widths)))
    ]
    graph = helper.make_graph(nodes, "lstm", row[:2], row[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    onnx.save(model, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
