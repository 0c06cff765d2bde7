"""A Keras model's graph, planned once, walked one timestep at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from worker.errors import NotStreamable
from worker.model.layers import Flow, Rule, Slot, Tensor, Value, make_rule, refuse


@dataclass(frozen=True)
class PlannedCall:
    """One call of one layer.

    Attributes:
        path: the layer's name, behind the names of the models around it; numbered from its second call on.
        rule: how the call moves on.
        source: key of the value that flows in.
        targets: keys of the values that flow out.
    """

    path: str
    rule: Rule
    source: int
    targets: tuple[int, ...]


class StepGraph:
    """The calls of a Keras model in an order in which they can be made.

    Nested models are walked into. A layer that is called twice (shared weights) has state for each call.

    Attributes:
        features: width of one sample.
        outputs: width of the answer.
        calls: the calls, inputs first.
        slots: `(path, slot)` for all state, in the order in which `step` takes it.
        causal: the model answers every timestep; otherwise its answer describes the sequence so far.
        activation: name of the last layer's activation, or its class when it is none.

    Args:
        model: Sequential or functional, built, with input `(batch, time, features)` and one output.

    Raises:
        NotStreamable: with the layer, the reason and the remedy.
    """

    def __init__(self, model: Any) -> None:
        _require_graph(model)
        shape = model.inputs[0].shape
        if len(model.inputs) != 1 or len(shape) != 3 or shape[2] is None:
            shapes = ", ".join(str(tensor.shape) for tensor in model.inputs)
            raise NotStreamable(
                f"the model takes {shapes}, expected one input (batch, time, features) with a fixed number of "
                "features: join the inputs of a timestep into one vector."
            )
        if len(model.outputs) != 1:
            raise NotStreamable(
                f"the model has {len(model.outputs)} outputs, expected one: export a model that ends at the output "
                "to be published."
            )
        if model.inputs[0].dtype != "float32":
            raise NotStreamable(f"the model takes {model.inputs[0].dtype}, expected float32.")
        self.features = int(shape[2])
        self.calls: list[PlannedCall] = []
        self._flows = [Flow(rank=3, temporal=True)]
        # Of each value, which value was compared with what to give its mask.
        self._masks: list[tuple[int, Any] | None] = [None]
        (self._answer,) = self._plan(model, (0,), "")
        if not self.calls:
            raise NotStreamable(f"model '{model.name}' has no layers.")
        flow = self._flows[self._answer]
        self.outputs = model.outputs[0].shape[-1]
        if flow.rank != (3 if flow.temporal else 2) or self.outputs is None:
            raise NotStreamable(
                f"the model's output is {model.outputs[0].shape}, expected (batch, time, classes) or (batch, classes)."
            )
        self.causal = flow.temporal
        self.activation = next(call.rule.activation for call in self.calls if self._answer in call.targets)
        self.slots: list[tuple[str, Slot]] = [(call.path, slot) for call in self.calls for slot in call.rule.slots]

    def step(self, samples: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance by one timestep.

        Args:
            samples: `(batch, features)` float32.
            state: one tensor `(batch, *shape)` per entry of `slots`.

        Returns:
            The answer `(batch, outputs)` and the state after this timestep.
        """
        values = {0: Value(samples[:, None, :], None)}  # (batch, 1, features)
        moved: list[Tensor] = []
        for call in self.calls:
            own = tuple(state[len(moved) : len(moved) + len(call.rule.slots)])
            outputs, after = call.rule.step(values[call.source], own)
            values.update(zip(call.targets, outputs, strict=True))
            moved.extend(after)
        answer = values[self._answer].tensor
        return answer[:, 0, :] if self.causal else answer, moved

    def _plan(self, model: Any, sources: tuple[int, ...], prefix: str) -> tuple[int, ...]:
        """Plan the calls of a model whose inputs are the values of `sources`; returns the keys of its outputs."""
        keys = {id(tensor): key for tensor, key in zip(model.inputs, sources, strict=True)}
        for node in _nodes_in_order(model):
            layer = node.operation
            source = keys[id(node.arguments.args[0])]
            self._verify_mask(node, source, keys)
            if isinstance(layer, keras.Model):
                _require_graph(layer)
                targets = self._plan(layer, (source,), f"{prefix}{layer.name}/")
                if layer.supports_masking:
                    self._verify_inherited_mask(source, targets)
            else:
                made = make_rule(layer, self._flows[source])
                targets = tuple(range(len(self._flows), len(self._flows) + len(made.outputs)))
                self._flows.extend(made.outputs)
                origin = (source, layer.mask_value) if isinstance(layer, keras.layers.Masking) else self._masks[source]
                self._masks.extend(origin if flow.masked else None for flow in made.outputs)
                self.calls.append(PlannedCall(self._path(prefix + layer.name), made, source, targets))
            keys.update((id(tensor), key) for tensor, key in zip(node.outputs, targets, strict=True))
        return tuple(keys[id(tensor)] for tensor in model.outputs)

    def _verify_inherited_mask(self, source: int, targets: tuple[int, ...]) -> None:
        """Refuse what Keras does to a nested model that drops a mask: it puts the mask of the input back."""
        for key in targets:
            if self._flows[source].masked and self._flows[key].temporal and not self._flows[key].masked:
                raise NotStreamable(
                    "a nested model drops its mask and Keras puts it back behind it: put the layers of the nested "
                    "model into the model itself."
                )

    def _verify_mask(self, node: Any, source: int, keys: dict[int, int]) -> None:
        """Refuse a mask that is not the one that travels with the input.

        Keras hands the mask of a Masking layer to the layers behind it as an argument, and spells it out in a saved
        functional model as the operations any(not_equal(inputs, mask_value)).
        """
        given = node.arguments.kwargs.get("mask")
        if given is None or given is getattr(node.arguments.args[0], "_keras_mask", None):
            return
        compared = given._keras_history.operation._inbound_nodes[given._keras_history.node_index]
        if type(compared.operation).__name__ == "Any" and compared.operation.axis in (-1, [-1]):
            inner = compared.arguments.args[0]._keras_history
            compared = inner.operation._inbound_nodes[inner.node_index]
            if type(compared.operation).__name__ == "NotEqual":
                tensor, value = compared.arguments.args
                if (keys.get(id(tensor)), value) == self._masks[source]:
                    return
        raise refuse(
            node.operation,
            "it is called with a mask of its own",
            "Let a Masking layer at the model's input make the mask",
        )

    def _path(self, path: str) -> str:
        """The path, numbered when the layer has been called before."""
        earlier = sum(call.path.partition("#")[0] == path for call in self.calls)
        return f"{path}#{earlier + 1}" if earlier else path


def _nodes_in_order(model: Any) -> list[Any]:
    """The calls between a model's inputs and outputs, each behind those that it needs."""
    ordered: list[Any] = []
    seen = {id(tensor._keras_history.operation) for tensor in model.inputs}

    def visit(tensor: Any) -> None:
        operation, index, _ = tensor._keras_history
        if id(operation) in seen:
            return
        node = operation._inbound_nodes[index]
        if node not in ordered:
            _require_one_tensor(node)
            visit(node.arguments.args[0])
            ordered.append(node)

    for tensor in model.outputs:
        visit(tensor)
    return ordered


def _require_one_tensor(node: Any) -> None:
    """Refuse a call with more than one tensor and its mask, or with arguments that change what the layer does."""
    given = [*node.arguments.args[1:], *(value for name, value in node.arguments.kwargs.items() if name != "mask")]
    if len(node.arguments.args) != 1 or node.arguments.args[0] not in node.arguments.keras_tensors or any(given):
        names = sorted(name for name, value in node.arguments.kwargs.items() if name != "mask" and value)
        raise refuse(
            node.operation,
            "it is called with more than one tensor" + (f" ({', '.join(names)})" if names else ""),
            "Call it with one tensor and nothing else",
        )


def _require_graph(model: Any) -> None:
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
