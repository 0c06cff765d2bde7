"""What events say does not depend on how many of a record's samples share one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from worker.encoding.encoder import Answers
from worker.encoding.json import JsonEncoder

numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize("classes", [["positive"], ["idle", "100%", 'the "third"']])
@given(data=st.data(), counts=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_an_event_of_several_samples_holds_the_numbers_that_they_have_alone(
    data: Any, counts: list[int], classes: list[str]
) -> None:
    encoder = JsonEncoder(classes, "0123456789ab")
    samples, events = sum(counts), len(counts)
    outputs = data.draw(arrays.arrays(np.float32, (samples, len(classes)), elements=numbers))
    prefix = encoder.prefix(b"pump-17", 2, 1041, 0)
    timesteps = np.concatenate([np.arange(count) for count in counts])
    alone = encoder.encode(Answers(2, [prefix] * samples, timesteps, outputs, [5] * samples, [7] * samples))
    firsts = np.flatnonzero(timesteps == 0)
    together = encoder.encode(
        Answers(2, [prefix] * events, timesteps[firsts], outputs, [5] * events, [7] * events, np.array(counts))
    )
    name = "probability" if len(classes) == 1 else "probabilities"
    unpacked = []
    for event, count in zip(map(json.loads, together), counts, strict=True):
        for i in range(count):
            values = event[name][i] if len(classes) == 1 else {key: p[i] for key, p in event[name].items()}
            unpacked.append(event | {"timestep": i, name: values})
    assert unpacked == list(map(json.loads, alone))
