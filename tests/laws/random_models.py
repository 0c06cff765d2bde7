"""Random models made of every rule, as recipes: plain values, so that a failing one can be read."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras

from tests.laws.streamed import with_random_weights

L = keras.layers
WIDTH = 4  # most layers give so many features; tiny, because every model is compiled

# Bounded ones for what feeds back: random weights would blow up a linear one.
ACTIVATIONS = ("tanh", "sigmoid", "softsign", "hard_sigmoid", "hard_tanh", "elu", "swish", "gelu", "softmax")
FEEDBACK = ACTIVATIONS[:5]
GATES = ("sigmoid", "hard_sigmoid", "softsign")


class Dice:
    """Numbers of a recipe, taken one by one; when they are used up, zeros."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self._numbers = list(numbers)

    def pick(self, choices: Any) -> Any:
        """One of the choices."""
        number = self._numbers.pop(0) if self._numbers else 0
        return choices[number % len(choices)]

    def below(self, limit: int) -> int:
        """A number from 0."""
        return int(self.pick(range(limit)))

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.below(2))


def cell_options(dice: Dice) -> dict[str, Any]:
    """What every cell of Keras takes."""
    return {
        "units": 1 + dice.below(5),
        "activation": dice.pick(FEEDBACK),
        "use_bias": dice.flag(),
        "dropout": 0.3 * dice.below(2),
        "recurrent_dropout": 0.3 * dice.below(2),
    }


def gated(dice: Dice) -> dict[str, Any]:
    """What gated layers take beside."""
    return {"recurrent_activation": dice.pick(GATES), "implementation": 1 + dice.below(2)}


def keras_cell(dice: Dice) -> Any:
    """A cell of Keras' own."""
    kind = dice.pick((L.LSTMCell, L.GRUCell, L.SimpleRNNCell))
    extra: dict[str, Any] = {}
    if kind is not L.SimpleRNNCell:
        extra = {"recurrent_activation": dice.pick(GATES)}
        extra["unit_forget_bias" if kind is L.LSTMCell else "reset_after"] = dice.flag()
    return kind(**cell_options(dice), **extra)


def recurrent(dice: Dice, sequences: bool) -> Any:
    """Any recurrent layer."""
    kind = dice.pick((L.LSTM, L.GRU, L.SimpleRNN, L.RNN))
    zeros = dice.flag() if sequences else False
    ends = {"return_sequences": sequences, "zero_output_for_mask": zeros}
    if kind is L.RNN:
        return L.RNN(keras_cell(dice) if dice.flag() else [keras_cell(dice) for _ in range(2 + dice.below(2))], **ends)
    extra = {} if kind is L.SimpleRNN else gated(dice)
    if kind is L.LSTM:
        extra["unit_forget_bias"] = dice.flag()
    if kind is L.GRU:
        extra["reset_after"] = dice.flag()
    return kind(**cell_options(dice), **extra, **ends)


def causal(x: Any, dice: Dice) -> Any:
    """Conv1D with padding of its own."""
    return L.Conv1D(
        WIDTH,
        1 + dice.below(4),
        padding="causal",
        dilation_rate=1 + dice.below(3),
        activation=dice.pick(ACTIVATIONS),
        use_bias=dice.flag(),
    )(x)


def window(x: Any, dice: Dice) -> Any:
    """A layer without causal padding, behind ZeroPadding1D."""
    size, dilation = 2 + dice.below(3), 1 + dice.below(2)
    kind = dice.pick((L.Conv1D, L.SeparableConv1D, L.DepthwiseConv1D, L.AveragePooling1D, L.MaxPooling1D))
    if kind in (L.AveragePooling1D, L.MaxPooling1D):
        layer, dilation = kind(size, strides=1), 1
    elif kind is L.DepthwiseConv1D:
        layer = kind(size, dilation_rate=dilation, depth_multiplier=1 + dice.below(2))
    else:
        layer = kind(WIDTH, size, dilation_rate=dilation, activation=dice.pick(ACTIVATIONS))
    return layer(L.ZeroPadding1D((dilation * (size - 1), 0))(x))


def attention(x: Any, dice: Dice) -> Any:
    """A bounded look back; where there is a mask, which it does not stand, behind a layer that drops it."""
    if getattr(x, "_keras_mask", None) is not None:
        x = L.Reshape((-1, x.shape[-1]))(x)
    options = {"sliding_window": 1 + dice.below(6), "use_bias": dice.flag(), "use_gate": dice.flag()}
    if dice.flag():
        return L.GroupQueryAttention(2, 2, 1 + dice.below(2), **options)(x, x, use_causal_mask=True)
    return L.MultiHeadAttention(2, 2, value_dim=1 + dice.below(3), **options)(x, x, use_causal_mask=True)


def spatial(x: Any, dice: Dice) -> Any:
    """A convolution inside the timestep, with memory."""
    x = L.TimeDistributed(L.Reshape((x.shape[-1], 1)))(x)
    layer = L.ConvLSTM1D(
        2, 2, padding="same", activation=dice.pick(FEEDBACK), return_sequences=True, use_bias=dice.flag()
    )
    return L.TimeDistributed(L.Flatten())(layer(x))


def plain(x: Any, dice: Dice) -> Any:
    """A layer that treats every timestep alone."""
    width = x.shape[-1]
    choices: list[Callable[[], Any]] = [
        lambda: L.Dense(WIDTH, activation=dice.pick(ACTIVATIONS), use_bias=dice.flag()),
        lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, WIDTH), bias_axes="d"),
        lambda: L.TimeDistributed(L.Dense(WIDTH, activation=dice.pick(ACTIVATIONS))),
        lambda: L.Activation(dice.pick(ACTIVATIONS)),
        dice.pick((L.ELU, L.LeakyReLU, L.ReLU, L.Identity)),
        lambda: L.PReLU(shared_axes=[1]),
        dice.pick((L.LayerNormalization, L.BatchNormalization, L.RMSNormalization, L.Normalization)),
        lambda: L.TimeDistributed(L.GroupNormalization(1)),
        lambda: L.Dropout(0.3),
        lambda: dice.pick((L.GaussianDropout, L.GaussianNoise, L.AlphaDropout, L.SpatialDropout1D))(0.2),
        lambda: L.Reshape((-1, width)),
        lambda: L.Rescaling(0.5, offset=0.25),
    ]
    return dice.pick(choices)()(x)


def operated(x: Any, dice: Dice) -> Any:
    """Bare operations."""
    return dice.pick(
        (
            lambda: x * 0.5 + keras.ops.tanh(x),
            lambda: keras.ops.concatenate([x, x[:, :, :1]], axis=-1),
            lambda: x - keras.ops.mean(x, axis=-1, keepdims=True),
            lambda: keras.ops.where(x > 0.0, x, 0.1 * x),
        )
    )()


def masked(x: Any, _: Dice) -> Any:
    """A mask in the middle of a model: a relu closes half of the timesteps."""
    return L.Masking(0.0)(L.Multiply()([L.Dense(3)(x), L.Dense(1, activation="relu")(x)]))


def nested(x: Any, dice: Dice) -> Any:
    """A model as a layer."""
    inner = keras.Sequential([keras.Input((None, x.shape[-1])), recurrent(dice, True), L.Dense(WIDTH)])
    return x if getattr(x, "_keras_mask", None) is not None else inner(x)


STEPS: dict[str, Callable[[Any, Dice], Any]] = {
    "recurrent": lambda x, dice: recurrent(dice, True)(x),
    "causal": causal,
    "window": window,
    "attention": attention,
    "spatial": spatial,
    "plain": plain,
    "operated": operated,
    "masked": masked,
    "nested": nested,
}
MERGES = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate)
ENDS: dict[str, Callable[[Any, Dice], Any]] = {
    "every timestep": lambda x, dice: x,
    "last output": lambda x, dice: recurrent(dice, False)(x),
    "last output, masked": lambda x, dice: recurrent(dice, False)(masked(x, dice)),
    "running mean": lambda x, dice: L.GlobalAveragePooling1D()(x),
    "running mean, masked": lambda x, dice: L.GlobalAveragePooling1D()(masked(x, dice)),
    "running maximum": lambda x, dice: L.GlobalMaxPooling1D()(x),
}
Recipe = tuple[tuple[str, ...], tuple[tuple[str, int, int, tuple[int, ...]], ...], tuple[tuple[str, int, int], ...]]


def build(recipe: Recipe, seed: int) -> Any:
    """The model of a recipe.

    Args:
        recipe: kinds of inputs; steps, each with two numbers that say what it is applied to, and its dice; heads, each
            with its end, a number for its dice, and its width.
        seed: of the weights.
    """
    kinds, steps, heads = recipe
    inputs, pool = [], []
    for kind in kinds:
        if kind == "ids":
            inputs.append(keras.Input((None,), dtype="int32"))
            pool.append(L.Embedding(5, WIDTH)(inputs[-1]))
        elif kind == "masked ids":
            inputs.append(keras.Input((None,)))
            pool.append(L.Embedding(5, WIDTH, mask_zero=True)(inputs[-1]))
        else:
            inputs.append(keras.Input((None, 3)))
            pool.append(L.Masking(0.5)(inputs[-1]) if kind == "masked" else inputs[-1])
    loose = list(pool)  # what nothing has used yet: the heads take all of it
    for name, first, second, numbers in steps:
        dice = Dice(numbers)
        one, other = pool[-1 - first % len(pool)], pool[-1 - second % len(pool)]
        loose = [x for x in loose if x is not one and not (name == "merge" and x is other)]
        if name == "merge":
            merge = dice.pick(MERGES)
            if merge is not L.Concatenate:
                one, other = (x if x.shape[-1] == WIDTH else L.Dense(WIDTH)(x) for x in (one, other))
            pool.append(merge()([one, other]))
        else:
            pool.append(STEPS[name](one, dice))
        loose.append(pool[-1])
    together = L.Concatenate()(loose) if len(loose) > 1 else loose[0]
    outputs = []
    for end, number, width in heads:
        x = ENDS[end](together, Dice((number, number // 4, number // 16, width)))
        outputs.append(L.Dense(width, activation="sigmoid" if width == 1 else "softmax")(x))
    return with_random_weights(keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0]), seed)


def recipe_of(seed: int) -> Recipe:
    """Everything is as likely as everything else; Hypothesis' own lists repeat themselves to find small failures."""
    rng = random.Random(seed)

    def step() -> tuple[str, int, int, tuple[int, ...]]:
        numbers = tuple(rng.randrange(60) for _ in range(14))
        return rng.choice([*STEPS, "merge", "merge"]), rng.randrange(6), rng.randrange(6), numbers

    kinds = rng.choices(["features", "masked", "ids", "masked ids"], k=rng.randint(1, 3))
    steps = [step() for _ in range(rng.randint(1, 6))]
    heads = [(rng.choice([*ENDS]), rng.randrange(100), rng.randint(1, 3)) for _ in range(rng.randint(1, 2))]
    return tuple(kinds), tuple(steps), tuple(heads)
