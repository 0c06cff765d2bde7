"""How far a streamed model may be from Keras on the sequences at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.experiments.experiment import Findings

if TYPE_CHECKING:
    from worker import StreamingModel


def streams_exactly(
    findings: Findings, claim: str, model: Any, streaming: StreamingModel, inputs: NDArray[np.float32], gap: float
) -> None:
    """Claim that streamed answers are those of Keras, but for rounding.

    An artifact's certificate allows 1e-6, or four times what XLA's compilation of the Keras model itself changes in its
    answers to random sequences. A trained model may be more sensitive to those that it was trained for: the same rule,
    on them.

    Args:
        findings: to be added to.
        claim: what is said to be so.
        model: the Keras model.
        streaming: its artifact, loaded.
        inputs: `(n, timesteps, features)`, what both answered.
        gap: largest difference of their answers.
    """
    from worker.model.certificate import tolerance_for
    from worker.model.parity import rounding_noise

    noise = rounding_noise(model, [inputs])
    limit = max(streaming.manifest.parity.tolerance, tolerance_for(noise))
    findings.at_most(f"{claim} (compiling Keras' own model changes {noise:.1e})", limit, gap, ".1e")
