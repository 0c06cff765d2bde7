"""Missing numbers become the feature's last value in its sequence: `missing=last`.

A sequence begins with 0 for each feature, as with `missing=zero`: what another sequence said is not known to this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.state.partition import PartitionState
from worker.state.sequences import Placement

Floats = NDArray[np.float32]


def filled(inputs: Floats, is_sample: NDArray[np.bool_], placement: Placement, state: PartitionState) -> Floats:
    """Samples without missing numbers.

    Args:
        inputs: `(samples, features)` float32 in log order; NaN is missing; not modified.
        is_sample: `(events,)`, which events have a sample, in log order.
        placement: of the events.
        state: `last_values` of the rows is brought up to date.
    """
    chosen = placement.is_sample
    if not len(inputs):
        return inputs
    row, begins = placement.row[chosen], placement.begins[chosen]
    place = (np.cumsum(is_sample) - 1)[placement.order[chosen]]  # each sample's index in `inputs`, a row's together
    sorted_inputs = inputs[place]
    first = np.append(True, row[1:] != row[:-1])
    missing = np.isnan(sorted_inputs)
    if missing.any():
        here = np.arange(len(row))
        anchor = np.maximum.accumulate(np.where(first | begins, here, 0))[:, None]
        # A sequence that was open before brings its values; any other begins with zeros.
        before = np.where(begins[anchor], np.float32(0), state.last_values[row])  # (samples, features)
        source = np.maximum.accumulate(np.where(missing, -1, here[:, None]))  # (samples, features)
        found = np.take_along_axis(sorted_inputs, np.maximum(source, 0), axis=0)
        sorted_inputs = np.where(source >= anchor, found, before)
        inputs = np.empty_like(inputs)
        inputs[place] = sorted_inputs
    last = np.append(first[1:], True)
    state.last_values[row[last]] = sorted_inputs[last]
    return inputs
