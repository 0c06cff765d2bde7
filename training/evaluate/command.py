"""The command `evaluate`: an artifact and labelled data -> how right it is, how early, how steady."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.datasets import Sequences, split
from training.tables import options
from worker.artifact import Manifest, read_artifact
from worker.errors import UsageError


def evaluate(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Directory of the artifact.")],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A table's file, a database's URL, or a bundled set: what training held out of it."
        ),
    ],
    *,
    stream_id: options.StreamId = None,
    label: options.Label = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Table: columns, in any order; else those that the artifact names."),
    ] = None,
    order: options.Order = None,
    sequence: options.Sequence = None,
    label_per: options.LabelPer = None,
    table: options.TableName = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Table: only the streams that `train` held out of this same table.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with pictures.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers as one JSON object.")] = False,
) -> None:
    """Judge an artifact's answers along labelled sequences.

    The samples go through the engine that the worker runs. At every tenth of each sequence: accuracy, ROC AUC, F1, log
    loss, Brier score and calibration error (ECE). Of the way: total variation and worst jump; and how early, and how
    rightly, the artifact's own decision rule decides, and a first crossing of a threshold would. What each number
    means: docs/evaluation.md.

    The table is read as `cellstream train` reads it. Its columns and classes are those of the artifact, by name.

    Example: `cellstream evaluate pumps runs.csv --stream-id run --label fault --order time --html report.html`

    Example: `cellstream evaluate artifacts/basic-motions basic-motions`
    """
    console = Console(stderr=True, highlight=False)
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {html}: there is no directory {html.absolute().parent}")
    opened = read_artifact(artifact)
    manifest = opened.manifest
    from training.evaluate.matching import features_of, match
    from training.tables.reading import is_table

    if is_table(data):
        features = features_of(manifest, features)
    else:
        held_out = True
    sequences = options.TableOptions(stream_id, label, features, order, sequence, label_per, table).read(data)
    trained_on_all = _trained_on(sequences, manifest) and not held_out
    if held_out:
        sequences = _held_out(sequences, manifest)
    matched = match(sequences, manifest)
    try:
        from training.evaluate.measures import evaluate_answers
    except ImportError as missing:
        raise UsageError(
            f"scores come from scikit-learn, which cannot be imported ({missing}): pip install 'cellstream[training]'"
        ) from missing
    from training.evaluate.answers import answer
    from worker.streaming import StreamingModel

    answers = answer(StreamingModel.load(artifact), matched)
    facts = {
        "artifact": artifact.absolute().name,
        "digest": opened.digest,
        "data": sequences.name,
        "sequences": len(sequences),
        "timesteps": int(sequences.lengths.sum()),
        "labels": "timestep" if answers.per_timestep else "sequence",
        "classes": list(answers.classes),
        "warnings": [TRAINED_ON] if trained_on_all else [],
        **evaluate_answers(answers),
    }
    if manifest.decision is not None:
        facts["decision"]["goal"] = manifest.decision.goal
    if html is not None:
        from training.evaluate.report import html_report

        _publish(html, html_report(facts, answers))
        console.print(f"written: {html}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(facts))
    else:
        _show(facts)


TRAINED_ON = (
    "the model was trained on most of these sequences, so the numbers flatter: --held-out takes only those that "
    "training did not see"
)


def _trained_on(sequences: Sequences, manifest: Manifest) -> bool:
    """Whether this looks like the data of the training run: the same name, and as many sequences."""
    facts = manifest.training or {}
    parts = facts.get("sequences")
    return isinstance(parts, dict) and facts.get("dataset") == sequences.name and _total(parts) == len(sequences)


def _held_out(sequences: Sequences, manifest: Manifest) -> Sequences:
    """What the training run that made an artifact held out.

    Raises:
        UsageError: the artifact is of another run.
    """
    facts = manifest.training or {}
    if not _trained_on(sequences, manifest) or not isinstance(facts.get("seed"), int):
        raise UsageError(
            f"the artifact was not trained on {sequences.name!r} with its {len(sequences)} sequences (its manifest "
            f"says {facts.get('dataset', 'nothing')!r}, {_total(facts.get('sequences'))} sequences), so what training "
            "held out is not known: evaluate it on a table of its own, without --held-out"
        )
    division = facts.get("division", {})
    if division.get("held_out") == 0:
        raise UsageError("the artifact was trained with --hold-out 0, on all sequences: evaluate it on other data")
    return split(sequences, facts["seed"], **division).test


def _total(parts: Any) -> int:
    return sum(parts.values()) if isinstance(parts, dict) else 0


def _show(facts: dict[str, Any]) -> None:
    """The numbers for a terminal."""
    from training.evaluate.measures import NAMES
    from training.evaluate.report import CROSSING_HEAD, class_rows, crossing_rows, number, rule_text, share_rows, tiles

    console = Console(highlight=False)
    console.print(
        f"{facts['artifact']} on {facts['data']}: {facts['sequences']:,} sequences, {facts['timesteps']:,} timesteps, "
        f"a label for each {facts['labels']}",
        markup=False,
        soft_wrap=True,
    )
    for text in facts["warnings"]:
        console.print(f"warning: {text}", markup=False, soft_wrap=True)
    judged = "all timesteps" if facts["labels"] == "timestep" else "at the end"
    for head, rows in (
        (("elapsed", *NAMES.values()), share_rows(facts)),
        (("decided at", *CROSSING_HEAD[1:]), crossing_rows(facts)),
        ((f"class, {judged}", "precision", "recall", "F1", "answers"), class_rows(facts)),
    ):
        table = Table(box=None, pad_edge=False)
        for place, name in enumerate(head):
            table.add_column(name, justify="right" if place else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        console.print()
        console.print(table)
    console.print()
    console.print(rule_text(facts), markup=False, soft_wrap=True)
    console.print()
    for name, value in tiles(facts):
        console.print(f"{name:<26}{number(value)}")


def _publish(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
