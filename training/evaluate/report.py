"""An evaluation as one HTML file that needs nothing else: no scripts, no network."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

from training.evaluate import drawings
from training.evaluate.answers import Answers
from training.evaluate.measures import NAMES, reliability

LEAST = 10


def html_report(facts: dict[str, Any], answers: Answers) -> str:
    """The report.

    Args:
        facts: of `evaluate_answers`, with what was evaluated: `artifact`, `digest`, `data`, `sequences`, `timesteps`,
            `labels`, `warnings`.
        answers: that they are of.
    """
    judged = "at all timesteps" if answers.per_timestep else "at the end of each sequence"
    told = reliability(answers.everywhere)
    template = Template(files("training.evaluate").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{facts['artifact']} on {facts['data']}"),
        facts=escape(
            f"{facts['sequences']:,} sequences, {facts['timesteps']:,} timesteps, a label for each {facts['labels']}; "
            f"model {facts['digest'][:12]}, answered by the worker's engine"
        ),
        warnings="".join(f'<p class="warning">{escape(text)}</p>' for text in facts["warnings"]),
        tiles="".join(
            f'<div class="tile"><b>{number(value)}</b><span>{name}</span></div>' for name, value in tiles(facts)
        ),
        over_time=_picture(drawings.over_time(facts["by_elapsed_time"]), "scores over elapsed time"),
        by_share=_table(("elapsed", *NAMES.values()), share_rows(facts)),
        trajectories=_picture(drawings.trajectories(answers), "probabilities along sequences"),
        trajectories_text=_trajectories_text(answers),
        rule=re.sub("`(.+?)`", r"<code>\1</code>", escape(rule_text(facts))),
        first_crossing=_table(CROSSING_HEAD, crossing_rows(facts)),
        reliability=_picture(drawings.reliability_diagram(told), "reliability diagram"),
        confusion=_picture(drawings.confusion(facts["confusion"], answers.classes), "confusion matrix"),
        judged=f"Answers {judged}.",
        by_class=_table(("class", "precision", "recall", "F1", "answers"), class_rows(facts)),
        least_text="mean over timesteps" if answers.per_timestep else "at the end",
        least=_table(("sequence", "right class", "its probability"), _least(answers)),
    )


OWN_RULE = "its own rule"
NO_RULE = "The artifact has no decision rule of its own; `cellstream train --folds 4 --decision early` makes one."
NO_DECISION = "Labels change within sequences, so there is no one decision to make about each."
CROSSING_HEAD = ("at", "earliness", "accuracy", "harmonic mean", "never")


def tiles(facts: dict[str, Any]) -> list[tuple[str, float | None]]:
    """The numbers that say most, with their names."""
    last, everywhere, steady = facts["by_elapsed_time"][-1], facts["all_timesteps"], facts["steadiness"]
    return [
        ("accuracy at the end", last["accuracy"]),
        ("mean accuracy on the way", facts["mean_accuracy"]),
        ("ROC AUC at the end", last["roc_auc"]),
        *([("harmonic mean, own rule", facts["decision"]["harmonic_mean"])] if facts["decision"] else []),
        ("ECE, all timesteps", everywhere["ece"]),
        ("total variation", steady["total_variation"]),
        ("of it, back and forth", steady["excess_variation"]),
        ("worst jump, mean", steady["worst_jump"]),
    ]


def share_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of the scores over elapsed time, and of all timesteps together."""
    rows = [(f"{row['share']:.0%}", row) for row in facts["by_elapsed_time"]]
    return [
        (name, *(number(row[score]) for score in NAMES))
        for name, row in [*rows, ("all timesteps", facts["all_timesteps"])]
    ]


def crossing_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of what the artifact's own rule gives, where it has one, and of what a threshold would give."""
    own = [(OWN_RULE, facts["decision"])] if facts["decision"] else []
    return [
        (name, *(number(row[key]) for key in ("earliness", "accuracy", "harmonic_mean")), f"{row['never']:.0%}")
        for name, row in [*own, *((f"{row['threshold']:.2f}", row) for row in facts["first_crossing"])]
    ]


def rule_text(facts: dict[str, Any]) -> str:
    """A sentence about the artifact's decision rule."""
    if not facts["decision"]:
        return NO_RULE if facts["labels"] == "sequence" else NO_DECISION
    return f"The artifact has a decision rule, made for: {facts['decision']['goal']}."


def class_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of each class."""
    return [
        (name, *(number(row[score]) for score in ("precision", "recall", "f1")), f"{row['answers']:,.0f}")
        for name, row in facts["by_class"].items()
    ]


def number(value: float | None) -> str:
    """Three digits; a dash for what is not defined."""
    return "–" if value is None else f"{value:.3f}"


def _least(answers: Answers) -> list[tuple[str, ...]]:
    """Sequences, the least probable first, with their label where they have one."""
    means = [path[np.arange(len(path)), own] for path, own in zip(answers.probabilities, answers.labels, strict=True)]
    told = np.array([own.mean() if answers.per_timestep else own[-1] for own in means])
    return [
        (
            answers.stream_ids[k],
            "changes" if len(set(answers.labels[k].tolist())) > 1 else answers.classes[answers.labels[k][-1]],
            number(float(told[k])),
        )
        for k in np.argsort(told, kind="stable")[:LEAST]
    ]


def _trajectories_text(answers: Answers) -> str:
    if answers.per_timestep:
        keys = "".join(
            f'<span class="key" style="background:{drawings.COLOURS[k % len(drawings.COLOURS)]}"></span>{escape(name)}'
            for k, name in enumerate(answers.classes)
        )
        return f"The first sequences, the right class as a strip below each.{keys}"
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{name}'
        for colour, name in ((drawings.RIGHT, "right in the end"), (drawings.WRONG, "wrong in the end"))
    )
    more = len(answers.classes) - len(drawings.shown_classes(answers))
    left_out = f" {more} classes with fewer sequences, or none, are left out." if more else ""
    return f"The probability of the right class, a panel for each class.{left_out}{keys}"


def _picture(svg: str, description: str) -> str:
    encoded = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(description)}" src="data:image/svg+xml;base64,{encoded}">'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
