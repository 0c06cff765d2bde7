"""A Keras model's graph as Keras keeps it: its nodes in order, and what each is called with.

The only place that knows the private names of Keras' graph: `_keras_history`, `_keras_mask`, `_inbound_nodes`.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras

from worker.errors import NotStreamable
from worker.model.layers import Call, Flow

_MASKS = frozenset({"mask"})


def nodes_in_order(model: Any) -> list[Any]:
    """The calls between a model's inputs and outputs, each behind those that it needs."""
    ordered: list[Any] = []
    done: set[int] = set()
    ends = {id(tensor._keras_history.operation) for tensor in model.inputs}
    waiting = [(tensor, False) for tensor in reversed(model.outputs)]
    while waiting:  # no recursion: a graph may be deeper than Python's stack
        tensor, entered = waiting.pop()
        operation, index, _ = tensor._keras_history
        if id(operation) in ends:
            continue
        node = operation._inbound_nodes[index]
        if id(node) in done:
            continue
        if entered:
            done.add(id(node))
            ordered.append(node)
        else:
            waiting.append((tensor, True))
            waiting.extend((needed, False) for needed in reversed([*tensors_of(node), *_foreign_masks(node)]))
    return ordered


def tensors_of(node: Any) -> list[Any]:
    """The tensors that a call is given, in order, without masks."""
    kwargs = {name: value for name, value in node.arguments.kwargs.items() if name not in _MASKS}
    return [
        given for given in keras.tree.flatten((node.arguments.args, kwargs)) if isinstance(given, keras.KerasTensor)
    ]


def call_of(node: Any, flows: tuple[Flow, ...]) -> Call:
    """A node as a rule sees it.

    Args:
        node: of Keras' graph.
        flows: of `tensors_of(node)`.
    """
    layer, args = node.operation, node.arguments.args
    kwargs = {name: value for name, value in node.arguments.kwargs.items() if name not in _MASKS}
    shapes = tuple(tuple(tensor.shape) for tensor in node.outputs)
    if not isinstance(layer, keras.layers.Layer):
        return Call(layer, flows, shapes, names=("x",) * len(flows), arguments=(args, kwargs))
    names: list[str] = []
    options: dict[str, Any] = {}
    for name, given in inspect.signature(layer.call).bind(*args, **kwargs).arguments.items():
        tensors = [part for part in keras.tree.flatten(given) if isinstance(part, keras.KerasTensor)]
        names.extend([name] * len(tensors))
        if not tensors:
            options[name] = given
    return Call(layer, flows, shapes, tuple(names), options)


def require_graph(model: Any) -> None:
    """Refuse a model whose graph cannot be seen."""
    if not isinstance(model, keras.Model) or type(model).__module__.split(".")[0] != "keras":
        raise NotStreamable(
            f"model '{getattr(model, 'name', model)}' ({type(model).__name__}) is a class with code of its own: build "
            "the same layers as keras.Sequential or with keras.Model(inputs, outputs), and load the weights."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise NotStreamable(
            f"model '{model.name}' does not know its input: let it begin with keras.Input((None, features))."
        )


def _foreign_masks(node: Any) -> list[Any]:
    """A mask that is given to a call and does not travel with its tensor: it has to be computed."""
    given = node.arguments.kwargs.get("mask")
    tensors = tensors_of(node)
    if not isinstance(given, keras.KerasTensor) or isinstance(node.operation, keras.Model) or len(tensors) != 1:
        return []
    return [] if given is getattr(tensors[0], "_keras_mask", None) else [given]
