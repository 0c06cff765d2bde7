"""Laws of a network of one's own: what is wrong with its file is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from training.own_network import own_network
from worker.errors import Refused, UsageError

HEAD = "import keras\nfrom keras import layers\n\n\ndef build(features, classes):\n"


def built(directory: Path, text: str) -> keras.Model:
    path = directory / "network.py"
    path.write_text(text, encoding="utf-8")
    return own_network(str(path), 2, 3)


def stack(*layers: str) -> str:
    listed = ", ".join(("keras.Input((None, features))", *layers))
    return f"{HEAD}    return keras.Sequential([{listed}])\n"


def test_a_network_that_can_be_streamed_is_taken(tmp_path: Path) -> None:
    text = stack("layers.GRU(4, return_sequences=True)", "layers.Dense(classes, 'softmax')")
    assert built(tmp_path, text).output_shape == (None, None, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name\n", r"network.py, line 1: ModuleNotFoundError: No module"),
        ("x = 1 / 0\n", r"network.py, line 1: ZeroDivisionError"),
        ("def build(features:\n", r"network.py: SyntaxError"),
        ("build = 3\n", r"expected a function build\(features, classes\)"),
        ("def build(features):\n    pass\n", r"network.py: TypeError: build\(\) takes 1 positional argument"),
        (f"{HEAD}    return layers.Dense(classes)(unknown)\n", r"network.py, line 6: NameError: name 'unknown'"),
        (f"{HEAD}    return None\n", "return a Keras model with answers .*, received NoneType"),
        (stack("layers.GRU(4)", "layers.Dense(classes, 'softmax')"), r"received \(None, 3\)"),
    ],
)
def test_what_is_wrong_with_the_file_is_wrong_usage_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        built(tmp_path, text)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (("layers.Bidirectional(layers.GRU(4, return_sequences=True), name='both')", "softmax"), "'both'"),
        (("layers.GRU(4, return_sequences=True)", "linear"), "activation='softmax'"),
    ],
)
def test_what_no_stream_could_use_is_refused_before_it_is_trained(
    tmp_path: Path, layers: tuple[str, str], told: str
) -> None:
    with pytest.raises(Refused, match=told):
        built(tmp_path, stack(layers[0], f"layers.Dense(classes, '{layers[1]}')"))
