"""Attention over a bounded window of the past: a ring of keys and values.

The one attention of Keras that has a bound is `MultiHeadAttention(..., sliding_window=n)`, called with
`use_causal_mask=True`: a timestep looks at itself and at the n - 1 before it, and at nothing else. Its keys and values
are kept in slots, with a flag for each that says whether the sequence had begun; a product with a weight of exactly
zero is what Keras has for a timestep that is out of the window.
"""

from __future__ import annotations

import keras
import numpy as np

from worker.model.layers.rule import Call, Rule, Slot, State, Value, Values, refuse, rule


@rule(keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
class WindowedAttention(Rule):
    """Causal attention with a sliding window."""

    several = True
    takes = frozenset({"use_causal_mask"})

    def __init__(self, call: Call) -> None:
        layer = call.layer
        super().__init__(call)
        self._names = call.names
        self._grouped = isinstance(layer, keras.layers.GroupQueryAttention)
        window = layer.sliding_window if self._grouped else layer._sliding_window
        self._require_bound(call, window)
        heads = layer.num_key_value_heads if self._grouped else layer.num_heads
        self._depth = layer.head_dim if self._grouped else layer.key_dim
        widths = (self._depth, self._depth if self._grouped else layer.value_dim)
        self.outputs = call.flowing(True)
        self._past = window - 1
        if self._past:
            keys, values = (np.zeros((self._past, heads, width), np.float32) for width in widths)
            self.slots = (Slot("keys", keys), Slot("values", values), Slot("begun", np.zeros(self._past, np.float32)))

    def _require_bound(self, call: Call, window: int | None) -> None:
        """Refuse attention that looks at the future, or at ever more of the past."""
        layer = self.layer
        remedy = "Build it with sliding_window=n and call it with use_causal_mask=True, on (batch, time, features)"
        if not call.options.get("use_causal_mask"):
            raise refuse(layer, "without use_causal_mask every timestep looks at the whole sequence", remedy)
        if window is None:
            raise refuse(layer, "without sliding_window its keys and values grow with the sequence", remedy)
        if not set(call.names) <= {"query", "value", "key"}:
            raise refuse(layer, f"it is called with {', '.join(call.names)}", remedy)
        if any(not one.temporal or one.rank != 3 for one in call.flows):
            raise refuse(layer, "it looks along another axis than time", remedy)
        if getattr(layer, "_attention_axes", None) not in (None, (1,)):
            raise refuse(layer, f"attention_axes={layer._attention_axes} are not time alone", remedy)
        if any(one.masked for one in call.flows):
            raise refuse(
                layer,
                "at a masked timestep Keras lets it look at the whole sequence, the future included",
                "Put it before the Masking layer, or behind a layer that drops the mask",
            )

    def step(self, values: Values, state: State) -> tuple[Values, State]:
        """Advance by one timestep; see `Rule.step`."""
        layer, ops = self.layer, keras.ops
        given = dict(zip(self._names, (value.tensor for value in values), strict=True))
        query, source = given["query"], given["value"]
        key, value = layer._key_dense(given.get("key", source)), layer._value_dense(source)
        begun = ops.ones_like(key[:, :, 0, 0])
        if self._past:
            key = ops.concatenate([state[0], key], axis=1)  # (batch, window, heads, key_dim)
            value = ops.concatenate([state[1], value], axis=1)
            begun = ops.concatenate([state[2], begun], axis=1)
        moved = (key[:, 1:], value[:, 1:], begun[:, 1:]) if self._past else ()
        if self._grouped:
            key, value = (ops.repeat(part, layer.num_repeats, axis=2) for part in (key, value))
        attended = ops.dot_product_attention(
            layer._query_dense(query),
            key,
            value,
            mask=begun[:, None, None] > 0.5,  # (batch, 1, 1, window)
            scale=self._depth**-0.5,
            flash_attention=False,
        )
        if getattr(layer, "use_gate", getattr(layer, "_use_gate", False)):
            attended = ops.multiply(attended, layer._gate_dense(query))
        return (Value(layer._output_dense(attended)),), moved
