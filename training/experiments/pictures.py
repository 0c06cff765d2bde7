"""Figures without a window system and without global state."""

from __future__ import annotations

import io
from typing import Any


def figure(rows: int = 1, columns: int = 1, height: float = 3.5) -> tuple[Any, Any]:
    """A figure and its axes, `(rows, columns)` of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, height * rows), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing, drawing.subplots(rows, columns, squeeze=False)


def png(drawing: Any) -> bytes:
    """The picture as a file's content; the same figure gives the same bytes."""
    image = io.BytesIO()
    drawing.savefig(image, format="png", dpi=90, metadata={"Software": None})
    return image.getvalue()
