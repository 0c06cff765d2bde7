"""Any model of the rules, with any weights, answers what Keras answers for every prefix, however it is cut.

Two dozen models by default, always the same ones; `CELLSTREAM_RANDOM_MODELS=300` draws so many others, and then every
one of them has to give the same bits in a wider block, too.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()

from tests.laws.random_models import build, recipe_of  # noqa: E402  (after its variables are set)
from tests.laws.streamed import largest_difference, noise  # noqa: E402
from worker.model.certificate import tolerance_for  # noqa: E402
from worker.model.step_model import StepModel  # noqa: E402

LONG = int(os.environ.get("CELLSTREAM_RANDOM_MODELS", "0"))
TOLERANCE = 1e-6


@pytest.mark.slow
@pytest.mark.timeout(400 + 20 * LONG)
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
@settings(
    max_examples=LONG or 24,
    deadline=None,
    derandomize=not LONG,
    database=None,
    phases=[Phase.generate],  # a smaller model takes as long to compile, and there may be hundreds of them
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_model_of_the_rules_answers_what_keras_answers(seed: int) -> None:
    recipe = recipe_of(seed)
    model = build(recipe, seed)
    difference, prefixes = largest_difference(model, seed)
    assert prefixes > 30
    # Where rounding is amplified by the model itself, as much is forgiven as a certificate would.
    assert difference <= TOLERANCE or difference <= tolerance_for(noise(model, seed)), (difference, recipe, seed)
    if LONG:
        assert StepModel(model).add_width(256), (recipe, seed)
