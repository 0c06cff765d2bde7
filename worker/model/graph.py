"""A Keras model's graph, planned once, walked one timestep at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from worker.errors import NotStreamable
from worker.model.calls import call_of, nodes_in_order, require_graph, tensors_of
from worker.model.inputs import columns_of
from worker.model.layers import Call, Flow, Rule, Slot, Tensor, Value, make_rule, refuse
from worker.model.layers.wrapping import TimeGiven, TimeTaken


@dataclass(frozen=True)
class PlannedCall:
    """One call of one layer.

    Attributes:
        path: the layer's name, behind the names of the models around it; numbered from its second call on.
        rule: how the call moves on.
        sources: keys of the values that flow in.
        mask: key of a mask that is given to the call in place of the one that travels with its value.
        targets: keys of the values that flow out.
    """

    path: str
    rule: Rule
    sources: tuple[int, ...]
    mask: int | None
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Head:
    """One output of the model.

    Attributes:
        name: of the layer that it comes from.
        width: number of columns.
        temporal: the model answers every timestep with it; otherwise it describes the sequence so far.
        activation: name of the last layer's activation, or its class when it is none.
    """

    name: str
    width: int
    temporal: bool
    activation: str


class StepGraph:
    """The calls of a Keras model in an order in which they can be made.

    Nested models are walked into. A layer that is called twice (shared weights) has state for each call.

    Attributes:
        features: width of one sample.
        outputs: width of the answer, all heads one behind the other.
        heads: the outputs of the model, in order.
        calls: the calls, inputs first.
        slots: `(path, slot)` for all state, in the order in which `step` takes it.
        causal: the model answers every timestep; otherwise its answer describes the sequence so far.
        vocabularies: columns that an Embedding looks up, and the number of its rows.
        mean_of_none: Keras' answer is NaN as long as all timesteps are masked, see `layers.pooling.RunningMean`.

    Args:
        model: Sequential or functional, built, with inputs per timestep (see `inputs`).

    Raises:
        NotStreamable: with the layer, the reason and the remedy.
    """

    def __init__(self, model: Any) -> None:
        require_graph(model)
        self._columns = columns_of(model)
        self._dtypes = [tensor.dtype for tensor in model.inputs]
        self.features = self._columns[-1].stop
        self.calls: list[PlannedCall] = []
        self._flows = [
            Flow(tuple(tensor.shape), temporal=True, columns=columns)
            for tensor, columns in zip(model.inputs, self._columns, strict=True)
        ]
        self._answers = self._plan(model, tuple(range(len(self._flows))), "")
        if not self.calls:
            raise NotStreamable(f"model '{model.name}' has no layers.")
        self.heads = [self._head(name, key) for name, key in zip(_names(model), self._answers, strict=True)]
        self.outputs = sum(head.width for head in self.heads)
        self.causal = all(head.temporal for head in self.heads)
        self.slots: list[tuple[str, Slot]] = [(call.path, slot) for call in self.calls for slot in call.rule.slots]
        found = [getattr(call.rule, "vocabulary", None) for call in self.calls]
        self.mean_of_none = any(getattr(call.rule, "mean_of_none", False) for call in self.calls)
        self.vocabularies: list[tuple[range, int]] = [vocabulary for vocabulary in found if vocabulary is not None]

    @property
    def default_classes(self) -> list[str]:
        """A name for every column of the answer: with several outputs, behind the name of its output."""
        several = len(self.heads) > 1
        named = []
        for head in self.heads:
            columns = ["positive"] if head.width == 1 else [str(column) for column in range(head.width)]
            named += [f"{head.name}/{column}" if several else column for column in columns]
        return named

    def step(self, samples: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance by one timestep.

        Args:
            samples: `(batch, features)` float32.
            state: one tensor `(batch, *shape)` per entry of `slots`.

        Returns:
            The answer `(batch, outputs)` and the state after this timestep.
        """
        values = dict(enumerate(self._inputs(samples)))
        moved: list[Tensor] = []
        for call in self.calls:
            own = tuple(state[len(moved) : len(moved) + len(call.rule.slots)])
            given = tuple(values[source] for source in call.sources)
            if call.mask is not None:
                given = tuple(Value(value.tensor, values[call.mask].tensor) for value in given)
            outputs, after = call.rule.step(given, own)
            values.update(zip(call.targets, outputs, strict=True))
            moved.extend(after)
        answers = [
            values[key].tensor[:, 0] if head.temporal else values[key].tensor
            for head, key in zip(self.heads, self._answers, strict=True)
        ]
        return keras.ops.concatenate(answers, axis=1) if len(answers) > 1 else answers[0], moved

    def _inputs(self, samples: Tensor) -> list[Value]:
        """The model's inputs at one timestep, `(batch, 1, features)` or `(batch, 1)`."""
        values = []
        for columns, dtype, flow in zip(self._columns, self._dtypes, self._flows, strict=False):
            part = samples[:, columns.start : columns.stop]
            part = part if dtype == "float32" else keras.ops.cast(part, dtype)
            values.append(Value(part[:, None] if flow.rank == 3 else part))
        return values

    def _head(self, name: str, key: int) -> Head:
        """What is known of an output."""
        flow = self._flows[key]
        width = flow.shape[-1]
        if flow.rank != (3 if flow.temporal else 2) or width is None or flow.padding:
            raise NotStreamable(
                f"the model's output is {flow.shape}, expected (batch, time, classes) or (batch, classes)."
            )
        made = next((call.rule for call in self.calls if key in call.targets), None)
        return Head(name, width, flow.temporal, "nothing" if made is None else made.activation)

    def _plan(self, model: Any, sources: tuple[int, ...], prefix: str) -> tuple[int, ...]:
        """Plan the calls of a model whose inputs are the values of `sources`; returns the keys of its outputs."""
        keys = {id(tensor): key for tensor, key in zip(model.inputs, sources, strict=True)}
        for node in nodes_in_order(model):
            layer = node.operation
            own = tuple(keys[id(tensor)] for tensor in tensors_of(node))
            mask = self._mask(node, own, keys)
            path = prefix + layer.name
            wrapped = getattr(layer, "layer", None)
            if isinstance(layer, keras.Model):
                require_graph(layer)
                targets = self._plan(layer, own, f"{path}/")
                if layer.supports_masking:
                    self._verify_inherited_mask(own, targets)
            elif type(layer) is keras.layers.TimeDistributed and isinstance(wrapped, keras.Model):
                targets = self._plan_distributed(node, wrapped, own, path)
            else:
                flows = [self._flows[key] for key in own]
                if mask is not None:
                    flows = [Flow(flow.shape, flow.temporal, masked=True, columns=flow.columns) for flow in flows]
                targets = self._add(path, make_rule(call_of(node, tuple(flows))), own, mask)
            keys.update((id(tensor), key) for tensor, key in zip(node.outputs, targets, strict=True))
        return tuple(keys[id(tensor)] for tensor in model.outputs)

    def _add(self, path: str, rule: Rule, sources: tuple[int, ...], mask: int | None = None) -> tuple[int, ...]:
        """Plan one call; returns the keys of its outputs."""
        targets = tuple(range(len(self._flows), len(self._flows) + len(rule.outputs)))
        self._flows.extend(rule.outputs)
        self.calls.append(PlannedCall(self._numbered(path), rule, sources, mask, targets))
        return targets

    def _plan_distributed(self, node: Any, wrapped: Any, sources: tuple[int, ...], path: str) -> tuple[int, ...]:
        """Plan a model that is wrapped in TimeDistributed: its layers see each timestep without time."""
        layer = node.operation
        require_graph(wrapped)
        (flow,) = (self._flows[key] for key in sources)
        inside = (flow.shape[0], *flow.shape[2:])
        before = self._add(path, TimeTaken(Call(layer, (flow,), (inside,))), sources)
        first = len(self.calls)
        inner = self._plan(wrapped, before, f"{path}/")
        if any(call.rule.slots for call in self.calls[first:]):
            raise refuse(layer, "the wrapped model keeps state", "Use the model without TimeDistributed")
        last = next((call.rule for call in self.calls if inner[0] in call.targets), None)
        shapes = tuple(tuple(tensor.shape) for tensor in node.outputs)
        return self._add(path, TimeGiven(Call(layer, (self._flows[inner[0]],), shapes), last), inner)

    def _mask(self, node: Any, own: tuple[int, ...], keys: dict[int, int]) -> int | None:
        """The key of a mask that is given to a call and is not the one that travels with its value.

        Keras hands the mask of a value on as an argument, and spells out in a saved functional model how it is made.
        """
        given = node.arguments.kwargs.get("mask")
        if given is None or given is getattr(tensors_of(node)[0], "_keras_mask", None):
            return None
        if not isinstance(given, keras.KerasTensor) or len(own) != 1 or isinstance(node.operation, keras.Model):
            if all(self._flows[key].masked for key in own):
                return None  # a saved model's spelling of the masks that travel with them
            raise refuse(node.operation, "it is called with masks of its own", "Let a Masking layer make the mask")
        key = keys[id(given)]
        flow = self._flows[key]
        if not (flow.temporal and flow.rank == 2):
            raise refuse(node.operation, f"its mask is {flow.shape}", "Give it a mask (batch, time)")
        return key

    def _verify_inherited_mask(self, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuse what Keras does to a nested model that drops a mask: it puts the mask of the input back."""
        for source, key in zip(sources, targets, strict=False):
            if self._flows[source].masked and self._flows[key].temporal and not self._flows[key].masked:
                raise NotStreamable(
                    "a nested model drops its mask and Keras puts it back behind it: put the layers of the nested "
                    "model into the model itself."
                )

    def _numbered(self, path: str) -> str:
        """The path, numbered when the layer has been called before."""
        earlier = sum(call.path.partition("#")[0] == path for call in self.calls)
        return f"{path}#{earlier + 1}" if earlier else path


def _names(model: Any) -> list[str]:
    """The names of a model's outputs: those of the layers that they come from."""
    return [tensor._keras_history.operation.name for tensor in model.outputs]
