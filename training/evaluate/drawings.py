"""Pictures of an evaluation, as SVG: text stays text, and names of classes are drawn as they are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from training.evaluate.answers import Answers
from training.evaluate.measures import NAMES

# Okabe and Ito's colours, which colour-blind readers tell apart; further classes take the same ones again.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000")
RIGHT, WRONG = COLOURS[0], COLOURS[5]
PANELS, PATHS = 12, 25


def over_time(by_share: list[dict[str, Any]]) -> str:
    """All scores over elapsed time: those that should be high, and those that should be low."""
    shares = [100 * row["share"] for row in by_share]
    with _figure(1, 2, 3.2) as (figure, axes):
        groups = (("accuracy", "roc_auc", "f1"), ("log_loss", "brier", "ece"))
        for panel, names, title in zip(axes[0], groups, ("higher is better", "lower is better"), strict=True):
            for name, colour in zip(names, COLOURS, strict=False):
                values = [np.nan if row[name] is None else row[name] for row in by_share]
                panel.plot(shares, values, marker="o", markersize=3.5, color=colour, label=NAMES[name])
            panel.set(title=title, xlabel="elapsed, % of a sequence", xlim=(0, 102))
            panel.legend(frameon=False)
        axes[0, 0].set_ylim(0, 1.03)
        axes[0, 1].set_ylim(0, None)
        return _svg(figure)


def trajectories(answers: Answers) -> str:
    """The way to the answer: for each class its probability, or for sequences with labels of timesteps all of them."""
    return _by_sequence(answers) if answers.per_timestep else _by_class(answers)


def reliability_diagram(facts: dict[str, Any]) -> str:
    """How often answers are right against how sure they are, and how many there are of each."""
    with _figure(2, 1, 2.6, 4.6) as (figure, axes):
        upper, lower = axes[:, 0]
        upper.plot([0, 1], [0, 1], color="#999999", linestyle=":")
        upper.plot(facts["certainty"], facts["right"], marker="o", color=COLOURS[0])
        upper.set(xlim=(0, 1), ylim=(0, 1.03), ylabel="share that is right")
        lower.bar(facts["certainty"], facts["answers"], width=0.07, color=COLOURS[4])
        lower.set(xlim=(0, 1), xlabel="probability of the class decided for", ylabel="answers")
        return _svg(figure)


def confusion(counts: list[list[int]], classes: tuple[str, ...]) -> str:
    """Rows are the right classes, columns the decided ones; shades are shares of a row."""
    table = np.array(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = min(9.0, 2.6 + 0.55 * len(classes))
    with _figure(1, 1, size * 0.85, size) as (figure, axes):
        panel = axes[0, 0]
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        names = [_short(name, 18) for name in classes]
        panel.set(xlabel="decided", ylabel="right")
        panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
        panel.set_yticks(range(len(names)), names)
        panel.grid(visible=False)
        if len(classes) <= 20:
            for (row, column), count in np.ndenumerate(table):
                dark = shares[row, column] > 0.5
                panel.text(column, row, f"{count:,}", ha="center", va="center", color="white" if dark else "black")
        return _svg(figure)


def shown_classes(answers: Answers) -> list[int]:
    """The classes that have a panel, in their order: those with most sequences."""
    sizes = np.bincount([own[-1] for own in answers.labels], minlength=len(answers.classes))
    chosen = np.argsort(-sizes, kind="stable")[:PANELS]
    return sorted(int(number) for number in chosen if sizes[number])


def _by_class(answers: Answers) -> str:
    """A panel for each class: the probability of the right class, right and wrong in the end in two colours."""
    numbers = shown_classes(answers)
    columns = min(3, len(numbers))
    rows = -(-len(numbers) // columns)
    with _figure(rows, columns, 2.4, 3.1 * columns) as (figure, axes):
        for panel, number in zip(axes.flat, numbers, strict=False):
            own = [k for k, labels in enumerate(answers.labels) if labels[-1] == number]
            for k in own[:PATHS]:
                path = answers.probabilities[k][:, number]
                elapsed = 100 * np.arange(1, len(path) + 1) / len(path)
                right = answers.decided[k][-1] == number
                # One sample is a point, and a line of one point is nothing.
                panel.plot(
                    elapsed,
                    path,
                    color=RIGHT if right else WRONG,
                    alpha=0.55,
                    linewidth=1.0,
                    marker="o" if len(path) == 1 else None,
                    markersize=3,
                )
            shown = f"{min(len(own), PATHS)} of {len(own)}" if len(own) > PATHS else f"{len(own)}"
            panel.set(title=f"{_short(answers.classes[number])} ({shown})", ylim=(-0.03, 1.03), xlim=(0, 102))
        for panel in list(axes.flat)[len(numbers) :]:
            panel.remove()
        figure.supxlabel("elapsed, % of a sequence", fontsize=9)
        figure.supylabel("probability of the right class", fontsize=9)
        return _svg(figure)


def _by_sequence(answers: Answers) -> str:
    """A panel for each of some sequences: all probabilities, and the right class as a strip below them."""
    chosen = range(min(6, len(answers)))
    with _figure(len(chosen), 1, 1.7) as (figure, axes):
        for panel, k in zip(axes[:, 0], chosen, strict=True):
            path, labels = answers.probabilities[k], answers.labels[k]
            timesteps = np.arange(len(path))
            for number in range(path.shape[1]):
                colour = COLOURS[number % len(COLOURS)]
                panel.plot(
                    timesteps, path[:, number], color=colour, linewidth=1.2, marker="." if len(path) == 1 else ""
                )
                here = labels == number
                panel.fill_between(
                    timesteps, -0.16, -0.05, where=here, step="mid", color=colour, linewidth=0, interpolate=False
                )
            panel.set(ylim=(-0.18, 1.03), xlim=(-0.5, len(path) - 0.5), title=_short(answers.stream_ids[k], 60))
        axes[-1, 0].set_xlabel("timestep")
        figure.supylabel("probabilities; strip: the right class", fontsize=9)
        return _svg(figure)


@contextmanager
def _figure(rows: int, columns: int, height: float, width: float = 9.0) -> Iterator[tuple[Any, Any]]:
    """A figure of `rows` x `columns` axes, each row `height` inches, in the report's style."""
    import matplotlib as mpl

    from training.experiments.pictures import figure

    style = {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "font.size": 8.5,
        "grid.alpha": 0.3,
        "svg.fonttype": "none",  # the browser has glyphs that matplotlib's font lacks
        "svg.hashsalt": "cellstream",  # the same picture is the same text
        "text.parse_math": False,  # a dollar in a name is a dollar
    }
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing, axes = figure(rows, columns, height)
        drawing.set_figwidth(width)
        yield drawing, axes


def _svg(figure: Any) -> str:
    image = io.StringIO()
    figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return image.getvalue()


def _short(name: str, longest: int = 32) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
