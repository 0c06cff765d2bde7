"""The loss of every epoch, kept beside the artifact as JSON and as a picture."""

from __future__ import annotations

import json
import os
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
    _publish(directory / "history.png", _picture(history, best_epoch, title))


def _picture(history: dict[str, list[float]], best_epoch: int, title: str) -> bytes:
    """Both losses over the epochs, as PNG."""
    import io

    # Figure and canvas without pyplot: no window system is looked for and no global state is left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    epochs = range(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], label="training")
    axes.plot(epochs, history["val_loss"], label="validation")
    axes.axvline(best_epoch, color="grey", linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss per timestep", title=title, ylim=(0, None))
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()


def _publish(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
