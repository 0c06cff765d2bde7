"""The networks that `train` fits: scaling inside, causal convolutions, recurrent layers, one answer per timestep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.own_network import digest_of, own_network
from training.padding import MASK_VALUE

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """How a network is built and fitted.

    Attributes:
        units: of the recurrent layers, in their order.
        cell: `lstm` or `gru`.
        filters: of the causal convolutions before them, in their order.
        kernel: timesteps that a convolution looks at.
        dropout: after each of these layers, in training only.
        noise: standard deviation of Gaussian noise on the scaled features, in training only.
        scale, offset, warp: how far sequences are changed in training; see `training.augmentation`.
        l2: penalty on the squares of all kernels.
        label_smoothing: share of the target that is spread over all classes.
        epochs: at most so many.
        patience: epochs without a better validation loss before fitting stops.
        schedule: of the learning rate: `constant`, or `cosine`: down to 0 over all epochs.
        class_weights: whether rare classes count as much as frequent ones.
        file: of a network of one's own in place of the layers, see `training.own_network`; empty for none.
    """

    units: tuple[int, ...] = (32, 16, 8)
    cell: str = "lstm"
    filters: tuple[int, ...] = ()
    kernel: int = 5
    dropout: float = 0.2
    noise: float = 0.3
    scale: float = 0.0
    offset: float = 0.0
    warp: float = 0.0
    l2: float = 1e-3
    label_smoothing: float = 0.1
    learning_rate: float = 1e-2
    batch_size: int = 16
    epochs: int = 60
    patience: int = 12
    schedule: str = "constant"
    class_weights: bool = False
    file: str = ""

    @property
    def augments(self) -> bool:
        """Whether sequences are changed in training by more than noise."""
        return self.scale > 0 or self.offset > 0 or self.warp > 0

    @property
    def masks(self) -> bool:
        """Whether padded timesteps are masked. A convolution drops masks, and a network of one's own might."""
        return not self.filters and not self.file

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON has it; of a file its name and its digest."""
        facts = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        if self.file:
            facts["file"] = f"{Path(self.file).name} {digest_of(self.file)}"
        return facts


# Chosen over several seeds; each trains in some ten seconds on two cores. Noise matters most on the small set: without
# it, one seed in five ended near 0.75 accuracy on basic-motions; with it all were at 0.95 or better. Penalty and
# smoothing keep a network from deciding steeply, and a steep one enlarges rounding: two float32 programs of the same
# weights (Keras and its stepped form) were up to 1e-5 apart without them and within 6e-7 with both; one was not enough.
RECIPES = {
    "basic-motions": Recipe(),
    "japanese-vowels": Recipe(units=(32, 16), dropout=0.3, l2=3e-3, learning_rate=5e-3, batch_size=32, patience=15),
}

# Networks by name, for any data: what `cellstream train --preset` takes.
PRESETS = {
    "lstm": Recipe(units=(48,)),
    "gru": Recipe(units=(48,), cell="gru"),
    # Chosen out of fold on four small sets of the archives (docs/aims.md). What mattered most: a high rate that goes
    # down to 0, small batches, epochs enough for it, and a convolution that sees nine timesteps.
    "conv-gru": Recipe(
        units=(48,),
        cell="gru",
        filters=(32,),
        kernel=9,
        noise=0.05,
        scale=0.1,
        warp=0.1,
        l2=3e-4,
        label_smoothing=0.05,
        learning_rate=1e-2,
        schedule="cosine",
        batch_size=8,
        epochs=300,
        patience=300,
    ),
    "seed-32-16-8": Recipe(),
}


@dataclass(frozen=True)
class Scaling:
    """Mean and variance of each feature, `(features,)` float64, over real timesteps of the training part."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, inputs: tuple[NDArray[np.float32], ...]) -> Scaling:
        """Measure sequences of `(timesteps, features)`, before they are padded: padding has no share in it.

        A feature that never changes keeps its scale (variance 1): Keras would divide by 1e-7, and the first sample
        in production that moves it a little would drown all the others.
        """
        timesteps = np.concatenate(inputs).astype(np.float64)  # (all timesteps, features)
        variance = timesteps.var(axis=0)
        return cls(timesteps.mean(axis=0), np.where(variance > 0, variance, 1.0))

    def facts(self, features: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Mean and variance by feature name, for the manifest."""
        numbers = zip(features, self.mean, self.variance, strict=True)
        return {name: {"mean": float(mean), "variance": float(variance)} for name, mean, variance in numbers}


def build(name: str, classes: int, scaling: Scaling, recipe: Recipe, *, padded: bool) -> keras.Model:
    """A network `(batch, timesteps, features)` -> `(batch, timesteps, outputs)`, not compiled.

    Two classes give one sigmoid output, the probability of the second; more give a softmax over all.

    Args:
        name: of the model. Every layer is named too: Keras' own numbering depends on what the process built before,
            and would change the file of an equal model.
        classes: how many, at least 2.
        scaling: of the training part.
        recipe: filters, units, noise and dropout.
        padded: whether inputs are padded with `MASK_VALUE` (see `training.padding`). Behind a convolution, which
            drops masks, none is made: what a causal network says of real timesteps does not depend on padding at the
            end, and the loss has weights.
    """
    import keras
    from keras import layers

    penalty = keras.regularizers.L2(recipe.l2)
    stack: list[Any] = [layers.Input((None, len(scaling.mean)), name="samples")]
    if padded and recipe.masks:
        stack.append(layers.Masking(MASK_VALUE, name="padding"))
    stack.append(layers.Normalization(mean=scaling.mean, variance=scaling.variance, name="scaling"))
    stack.append(layers.GaussianNoise(recipe.noise, name="noise"))
    if recipe.file:
        stack.append(own_network(recipe.file, len(scaling.mean), classes))
        return keras.Sequential(stack, name=name.replace("-", "_"))
    for number, filters in enumerate(recipe.filters, start=1):
        stack.append(
            layers.Conv1D(
                filters,
                recipe.kernel,
                padding="causal",
                activation="relu",
                kernel_regularizer=penalty,
                name=f"conv_{number}",
            )
        )
        stack.append(layers.Dropout(recipe.dropout, name=f"conv_dropout_{number}"))
    recurrent = {"lstm": layers.LSTM, "gru": layers.GRU}[recipe.cell]
    for number, units in enumerate(recipe.units, start=1):
        stack.append(
            recurrent(
                units,
                return_sequences=True,
                kernel_regularizer=penalty,
                recurrent_regularizer=penalty,
                name=f"{recipe.cell}_{number}",
            )
        )
        stack.append(layers.Dropout(recipe.dropout, name=f"dropout_{number}"))
    width, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    stack.append(layers.Dense(width, activation=activation, kernel_regularizer=penalty, name="probabilities"))
    return keras.Sequential(stack, name=name.replace("-", "_"))
