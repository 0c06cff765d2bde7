"""One network: a loss at every timestep, early stopping, the best weights kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from training.batches import Batches
from training.datasets import Sequences
from training.networks import Recipe, Scaling, build
from training.targets import Targets, class_weights

COMPILED_FROM = 100  # epochs

# epoch (from 1), training loss, validation loss
OnEpoch = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Places:
    """Directories for what is kept while a training goes on.

    Attributes:
        memory: to go on after a kill; see `training.resuming`. None for none.
        logs: for TensorBoard. None for none.
    """

    memory: Path | None = None
    logs: Path | None = None

    def open(self, plan: dict[str, Any], sequences: Sequences) -> None:
        """See that the memory is of this training; see `training.resuming.open_memory`."""
        if self.memory is not None:
            from training.resuming import open_memory

            open_memory(self.memory, plan, sequences)

    def boards(self, name: str) -> list[Any]:
        """Callbacks that write the logs of one network."""
        import keras

        return [] if self.logs is None else [keras.callbacks.TensorBoard(str(self.logs / name))]


NOWHERE = Places()


@dataclass(frozen=True)
class Member:
    """A network with its best weights.

    Attributes:
        model: without optimizer.
        history: `loss` and `val_loss`, one number for each epoch.
        best_epoch: whose weights it has, counted from 1.
    """

    model: Any
    history: dict[str, list[float]]
    best_epoch: int


def fit_member(
    train: Sequences,
    validation: Sequences,
    scaling: Scaling,
    recipe: Recipe,
    seed: int,
    *,
    name: str,
    padded: bool,
    stop: Event,
    on_epoch: OnEpoch | None = None,
    places: Places = NOWHERE,
) -> Member:
    """Fit one network; see `fit`.

    Args:
        train: sequences to learn.
        validation: sequences that say when to stop.
        scaling: what the network's Normalization layer holds.
        recipe: network and fitting.
        seed: as `fit`.
        name: of the network.
        padded: whether the sequences that it is made for differ in length.
        stop: ends fitting when set.
        on_epoch: called after each epoch.
        places: as `fit`.
    """
    import keras

    from training.resuming import BestWeights

    classes = len(train.classes)
    keras.utils.set_random_seed(seed)
    model = build(name, classes, scaling, recipe, padded=padded)
    weights = class_weights(train) if recipe.class_weights else None
    targets = Targets(train, recipe, padded=padded, weights=weights)
    batches = Batches(train.inputs, targets, scaling, recipe, seed)
    model.compile(
        # A recording that is wrong at every timestep has a long gradient; clipping keeps it from undoing the rest.
        optimizer=keras.optimizers.Adam(_learning_rate(recipe, len(batches)), clipnorm=1.0),
        loss=_loss(classes, recipe.label_smoothing, targets.weighted),
        jit_compile=_compiles(recipe, padded),
    )
    best = BestWeights(recipe.patience, places.memory and places.memory / name)
    model.fit(
        batches.dataset(),
        validation_data=Targets(validation, recipe, padded=padded, weights=weights).arrays(validation.inputs),
        epochs=recipe.epochs,
        validation_batch_size=256,
        shuffle=False,
        verbose=0,
        callbacks=[best, _watch(batches, seed, stop, on_epoch), *places.boards(name)],
    )
    # Its answers are compared with those of the worker, which steps it on the processor.
    with keras.device("cpu:0"):
        bare = build(name, classes, scaling, recipe, padded=padded)
        bare.set_weights(model.get_weights())
    return Member(bare, best.losses, best.best_epoch + 1)


def _compiles(recipe: Recipe, padded: bool) -> bool | str:
    """Whether XLA compiles an epoch's batches.

    It takes a recurrent layer's timestep in half the time, after ten seconds for each shape of a batch: sequences of
    many lengths have too many. On a GPU, Keras' own choice (cuDNN) is faster.
    """
    import tensorflow as tf

    worth = recipe.epochs >= COMPILED_FROM and not padded
    return True if worth and not tf.config.list_physical_devices("GPU") else "auto"


def _learning_rate(recipe: Recipe, batches: int) -> Any:
    """The rate, or its way over all steps."""
    import keras

    if recipe.schedule == "constant":
        return recipe.learning_rate
    return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * batches)


def _loss(classes: int, label_smoothing: float, weighted: bool) -> Any:
    """Cross-entropy; a mask that comes with the predictions, or weights, take padded timesteps out of it."""
    import keras

    kind = keras.losses.BinaryCrossentropy if classes == 2 else keras.losses.CategoricalCrossentropy
    reduction = "mean_with_sample_weight" if weighted else "sum_over_batch_size"
    return kind(label_smoothing=label_smoothing, reduction=reduction)


def _watch(batches: Batches, seed: int, stop: Event, on_epoch: OnEpoch | None) -> Any:
    """A callback that counts and reports epochs, and ends training when `stop` is set."""
    import keras

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            batches.epoch = epoch
            # Dropout and noise too are those of this epoch, whether or not the ones before it ran in this process.
            for number, layer in enumerate(self.model.layers):
                if hasattr(layer, "seed_generator"):
                    layer.seed_generator.state.assign([(seed * 1000 + number) % 2**32, epoch])

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if stop.is_set():
                self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if stop.is_set() and epoch == 0:
                raise KeyboardInterrupt
            if on_epoch is not None:
                on_epoch(epoch + 1, logs["loss"], logs["val_loss"])

    return Watch()
