"""The certificate of an artifact: how far stepping and Keras were apart, and how far they may be.

Stepping and Keras round differently: XLA's tanh and sigmoid differ from TensorFlow's in the last bits, and trained
weights amplify that, by another factor in every model. What is only rounding is therefore measured on the model
itself, without any stepping: the same Keras model, once as Keras runs it and once compiled by XLA. A wrong step is
farther away than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERANCE = 1e-6  # for a model that does not amplify
NOISE_FACTOR = 4  # stepping sums in another order too, and both differences are the largest of a finite draw
CEILING = 1e-4  # whatever the noise: answers that rounding moves farther are not worth serving


@dataclass(frozen=True)
class Certificate:
    """How far stepping and Keras were apart.

    Attributes:
        largest_difference: between stepping and Keras, over every answer of every prefix.
        tolerance: what it may be.
        prefixes: number of prefixes that were compared.
        sequences: number of random sequences that they belong to.
        seeds: of the random numbers.
        buckets: block shapes that the sequences went through.
        noise: largest difference between Keras and the same Keras model compiled by XLA, on the same sequences;
            0 where XLA cannot compile it.
    """

    largest_difference: float
    tolerance: float
    prefixes: int
    sequences: int
    seeds: tuple[int, ...]
    buckets: tuple[tuple[int, int], ...]
    noise: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the difference is a number within the tolerance, and the model one that can have a tolerance."""
        return self.largest_difference <= self.tolerance <= CEILING and self.noise <= CEILING

    @property
    def problem(self) -> str:
        """Why it does not hold, and what to do; meaningless when it holds."""
        if not math.isfinite(self.largest_difference):
            return (
                "an answer is NaN or infinite for ordinary samples: stepped, in Keras, or both. Look for weights that "
                "are not finite, a variance of 0 in a Normalization layer, or a recurrent layer with relu."
            )
        differs = f"stepping differs from Keras by {self.largest_difference:.2g} over {self.prefixes:,} prefixes"
        if not NOISE_FACTOR * self.noise <= CEILING and self.largest_difference <= NOISE_FACTOR * self.noise:
            return (
                f"the model amplifies rounding: {differs}, at most {CEILING:.0e} may be, and compiling the Keras model "
                f"as a whole changes its own answers by {self.noise:.2g}. Its answers depend on the library and the "
                "processor. Train it with smaller weights: L2 regularisation of the recurrent kernels, gradient "
                "clipping, label smoothing, fewer epochs; with tanh in place of relu; with a Normalization layer."
            )
        return (
            f"{differs}, at most {self.tolerance:.2g} may be, and rounding explains {self.noise:.2g} (what compiling "
            "the Keras model as a whole changes in its own answers). Please report it, with the model's layers."
        )


def tolerance_for(noise: float) -> float:
    """What stepping may differ from a model whose own answers move by `noise` when XLA compiles it."""
    return min(max(TOLERANCE, NOISE_FACTOR * noise), CEILING)
