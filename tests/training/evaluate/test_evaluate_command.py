"""Laws of `cellstream evaluate`: what it says is what Keras says of the table; what does not fit is told."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from worker.artifact import write_artifact
from worker.cli import app
from worker.decision import DecisionRule
from worker.errors import UsageError
from worker.model.tensorflow_setup import setup_tensorflow

setup_tensorflow()
import keras  # noqa: E402 - after the set-up

CLASSES = ("ok", "w<b> & 'n", "$x$_漢")
COLUMNS = ("--stream-id", "run", "--label", "state", "--order", "at")


def network(outputs: int) -> keras.Model:
    keras.utils.set_random_seed(11)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((None, 2)),
            layers.GRU(4, return_sequences=True, bias_initializer="random_normal"),
            layers.Dense(outputs, "sigmoid" if outputs == 1 else "softmax", kernel_initializer="random_normal"),
        ]
    )


def table(classes: tuple[str, ...] = CLASSES, *, changing: bool = False) -> pd.DataFrame:
    """Eighteen runs of 1 to 6 rows, mixed."""
    chance = np.random.default_rng(3)
    rows = [
        (f"run-{i}", at, chance.normal(), chance.normal(), classes[(i + (at // 2 if changing else 0)) % len(classes)])
        for i in range(18)
        for at in range(1 + i % 6)
    ]
    return pd.DataFrame([rows[i] for i in chance.permutation(len(rows))], columns=["run", "at", "p", "q", "state"])


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """An artifact of two classes (one probability), and one of three."""
    made = {}
    for outputs, classes in ((1, CLASSES[:1]), (3, CLASSES)):
        made[outputs] = tmp_path_factory.mktemp("artifacts") / f"of-{outputs}"
        write_artifact(network(outputs), made[outputs], features=("p", "q"), classes=classes)
    return made


def evaluate(*arguments: object) -> Any:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done


def refusal(*arguments: object) -> str:
    with pytest.raises(UsageError) as refused:
        evaluate(*arguments)
    return str(refused.value)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("changing", [False, True])
def test_the_numbers_are_those_of_keras(
    artifacts: dict[int, Path], tmp_path: Path, outputs: int, changing: bool
) -> None:
    rows = table(CLASSES[: max(2, outputs)], changing=changing)
    rows.to_csv(tmp_path / "runs.csv", index=False)
    facts = json.loads(evaluate(artifacts[outputs], tmp_path / "runs.csv", *COLUMNS, "--json").stdout)
    right, total = 0, 0
    for _, own in rows.sort_values("at").groupby("run"):
        told = np.asarray(network(outputs)(own[["p", "q"]].to_numpy(np.float32)[None]))[0]
        names = [CLASSES[0] if p >= 0.5 else CLASSES[1] for p in told[:, 0]]
        names = names if outputs == 1 else [CLASSES[k] for k in told.argmax(axis=1)]
        right, total = right + sum(names == own["state"]), total + len(own)
    assert facts["timesteps"] == total
    assert facts["all_timesteps"]["accuracy"] == pytest.approx(right / total)
    assert facts["labels"] == ("timestep" if changing else "sequence")
    judged = total if changing else 18
    assert sum(map(sum, facts["confusion"])) == sum(own["answers"] for own in facts["by_class"].values()) == judged
    assert [row["share"] for row in facts["by_elapsed_time"]] == pytest.approx(np.arange(1, 11) / 10)


@pytest.mark.parametrize(("outputs", "changing"), [(1, True), (3, False)])
def test_the_report_needs_nothing_but_itself(
    artifacts: dict[int, Path], tmp_path: Path, outputs: int, changing: bool
) -> None:
    table(CLASSES[: max(2, outputs)], changing=changing).to_csv(tmp_path / "runs.csv", index=False)
    done = evaluate(artifacts[outputs], tmp_path / "runs.csv", *COLUMNS, "--html", tmp_path / "report.html")
    assert "accuracy at the end" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "runs.csv"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources: list[str] = []

    class Look(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe", "object", "base")
            sources.extend(value or "" for name, value in attrs if name in ("src", "href", "srcset"))

    Look().feed(page)
    assert len(sources) == 4  # over time, trajectories, reliability, confusion
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert "default-src 'none'" in page
    assert ("there is no one decision to make" in page) == changing
    assert ("<code>cellstream train --folds 4 --decision early</code>" in page) != changing
    assert not re.search(r"https?://", page)
    assert "w&lt;b&gt; &amp; &#x27;n" in page
    assert "w<b>" not in page


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_artifacts_own_rule_decides(artifacts: dict[int, Path], tmp_path: Path, outputs: int) -> None:
    classes = CLASSES[:3] if outputs == 3 else CLASSES[1::-1]  # of two, the one without a probability comes first
    table(CLASSES[: max(2, outputs)]).to_csv(tmp_path / "runs.csv", index=False)
    rule = DecisionRule(classes, (0, 2), ((2.0,) * len(classes), (0.0,) * len(classes)), "the third sample")
    write_artifact(network(outputs), tmp_path / "ruled", features=("p", "q"), classes=CLASSES[:outputs], decision=rule)
    facts = json.loads(evaluate(tmp_path / "ruled", tmp_path / "runs.csv", *COLUMNS, "--json").stdout)
    # The runs have 1 to 6 rows, three of each length; those of one and two rows are never decided.
    assert facts["decision"]["never"] == pytest.approx(1 / 3)
    assert facts["decision"]["earliness"] == pytest.approx(np.mean([1, 1, 1, 3 / 4, 3 / 5, 3 / 6]))
    assert facts["decision"]["goal"] == "the third sample"
    plain = json.loads(evaluate(artifacts[outputs], tmp_path / "runs.csv", *COLUMNS, "--json").stdout)
    assert plain["decision"] is None
    assert facts["all_timesteps"] == pytest.approx(plain["all_timesteps"])
    assert "no decision rule of its own" in evaluate(artifacts[outputs], tmp_path / "runs.csv", *COLUMNS).stdout
    report = tmp_path / "report.html"
    told = evaluate(tmp_path / "ruled", tmp_path / "runs.csv", *COLUMNS, "--html", report).stdout
    assert "has a decision rule, made for: the third sample" in told
    assert "its own rule" in report.read_text(encoding="utf-8")


def test_features_go_by_name(artifacts: dict[int, Path], tmp_path: Path) -> None:
    rows = table()
    rows.to_csv(tmp_path / "runs.csv", index=False)
    rows[["state", "q", "at", "p", "run"]].to_csv(tmp_path / "other.csv", index=False)
    told = [
        json.loads(evaluate(artifacts[3], tmp_path / name, *COLUMNS, *more, "--json").stdout)
        for name, more in (("runs.csv", ()), ("other.csv", ("--features", "q, p")))
    ]
    assert [facts.pop("data") for facts in told] == ["runs", "other"]
    assert told[0] == told[1]


def test_other_features_are_refused_with_those_that_are_taken(artifacts: dict[int, Path], tmp_path: Path) -> None:
    table().rename(columns={"q": "flow"}).to_csv(tmp_path / "runs.csv", index=False)
    told = refusal(artifacts[3], tmp_path / "runs.csv", *COLUMNS, "--features", "p,flow")
    assert "it lacks 'q' and the artifact has no 'flow'; the artifact takes p,q" in told
    assert "there is no column 'q'" in refusal(artifacts[3], tmp_path / "runs.csv", *COLUMNS)


def test_classes_that_the_artifact_does_not_know_are_refused(artifacts: dict[int, Path], tmp_path: Path) -> None:
    table(("ok", "worn", "okay")).to_csv(tmp_path / "runs.csv", index=False)
    told = refusal(artifacts[3], tmp_path / "runs.csv", *COLUMNS)
    assert "is labelled 'okay', 'worn', which the artifact does not know (did you mean 'ok'?)" in told
    assert "one probability, that of 'ok' against one other class" in refusal(
        artifacts[1], tmp_path / "runs.csv", *COLUMNS
    )


def test_a_table_may_lack_a_class(artifacts: dict[int, Path], tmp_path: Path) -> None:
    table(CLASSES[:2]).to_csv(tmp_path / "runs.csv", index=False)
    facts = json.loads(evaluate(artifacts[3], tmp_path / "runs.csv", *COLUMNS, "--json").stdout)
    assert facts["by_class"][CLASSES[2]]["answers"] == 0
    assert facts["by_elapsed_time"][0]["roc_auc"] is not None


def test_a_table_needs_to_be_told_its_columns(artifacts: dict[int, Path]) -> None:
    assert "say which columns to use with --stream-id, --label" in refusal(artifacts[1], "runs.csv")


def test_a_bundled_set_of_another_artifact_is_refused(artifacts: dict[int, Path]) -> None:
    assert "was not trained on 'basic-motions' with its 80 sequences" in refusal(artifacts[3], "basic-motions")


def test_a_report_without_a_directory_is_refused_before_work_is_done(
    artifacts: dict[int, Path], tmp_path: Path
) -> None:
    told = refusal(artifacts[1], "runs.csv", "--html", tmp_path / "nowhere" / "report.html")
    assert "there is no directory" in told


def test_held_out_is_what_training_held_out(tmp_path: Path) -> None:
    rows = pd.concat([table(CLASSES[:2]), table(CLASSES[:2]).assign(run=lambda own: "other-" + own["run"])])
    rows.to_csv(tmp_path / "runs.csv", index=False)
    facts = {"dataset": "runs", "seed": 4, "sequences": {"train": 20, "validation": 8, "test": 8}}
    out = tmp_path / "artifact"
    write_artifact(network(1), out, features=("p", "q"), classes=("ok",), training=facts)
    whole = json.loads(evaluate(out, tmp_path / "runs.csv", *COLUMNS, "--json").stdout)
    assert whole["sequences"] == 36
    assert "--held-out takes only those that training did not see" in whole["warnings"][0]
    part = json.loads(evaluate(out, tmp_path / "runs.csv", *COLUMNS, "--held-out", "--json").stdout)
    assert part["sequences"] == 8
    assert part["warnings"] == []
    rows[rows["run"] != "run-3"].to_csv(tmp_path / "runs.csv", index=False)
    assert "what training held out is not known" in refusal(out, tmp_path / "runs.csv", *COLUMNS, "--held-out")
