"""The loss of every epoch, kept beside the artifact as JSON and as a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_history(history: dict[str, list[float]], best_epoch: int, directory: Path, title: str) -> None:
    """Write `history.json` and `history.png`, each whole or not at all.

    Args:
        history: `loss` and `val_loss`, one number for each epoch.
        best_epoch: counted from 1, the one whose weights were kept.
        directory: exists.
        title: of the picture.
    """
    content = {"best_epoch": best_epoch, **history}
    _publish(directory / "history.json", (json.dumps(content, indent=2) + "\n").encode())
    _publish(directory / "history.png", _picture([(history, best_epoch)], title))


def write_histories(members: Sequence[tuple[dict[str, list[float]], int]], directory: Path, title: str) -> None:
    """As `write_history`, for the members of an ensemble: what each was trained to, and the epoch it was kept at."""
    content = {"members": [{"best_epoch": best_epoch, **history} for history, best_epoch in members]}
    _publish(directory / "history.json", (json.dumps(content, indent=2) + "\n").encode())
    _publish(directory / "history.png", _picture(members, title))


def _picture(members: Sequence[tuple[dict[str, list[float]], int]], title: str) -> bytes:
    """Both losses over the epochs, of one network or of each in an ensemble, as PNG."""
    import io

    # Figure and canvas without pyplot: no window system is looked for and no global state is left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (history, best_epoch) in enumerate(members):
        epochs = range(1, len(history["loss"]) + 1)
        kept = f"kept: epoch {best_epoch}" if len(members) == 1 else "kept"
        told = ("training", "validation", kept) if number == 0 else (None, None, None)
        axes.plot(epochs, history["loss"], color="C0", label=told[0])
        axes.plot(epochs, history["val_loss"], color="C1", label=told[1])
        axes.axvline(best_epoch, color="grey", linestyle=":", label=told[2])
    axes.set(xlabel="epoch", ylabel="loss per timestep", title=title, ylim=(0, None))
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _publish(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
