"""Every experiment, in its quick form: all that it claims holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.experiments.catalog import CATALOG, choose
from training.experiments.command import experiments
from training.experiments.echo import decode, encode, fresh
from training.experiments.experiment import Findings
from training.experiments.page import write_page
from training.experiments.pictures import figure
from training.experiments.running import Run, run
from worker.errors import UsageError

SEED = 0


@pytest.mark.parametrize("name", CATALOG)
def test_what_an_experiment_claims_holds(name: str) -> None:
    found = run(CATALOG[name], SEED, quick=True)
    assert found.findings.rows
    failed = [row for row in found.findings.rows if not row.holds]
    assert not failed, f"seed {SEED}: {failed}"


def test_a_claim_that_does_not_hold_is_seen() -> None:
    findings = Findings()
    findings.at_least("more", 1.0, 0.999)
    findings.at_most("less", 1e-6, 2e-6)
    findings.equal("same", 8553, 8552)
    findings.at_most("a number", 1.0, float("nan"))
    assert [row.holds for row in findings.rows] == [False] * 4


def test_an_unknown_number_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no experiment 9z"):
        choose(["1a", "9z"])


@pytest.mark.parametrize("alphabet", [1, 2, 100])
def test_one_hot_decoding_takes_the_encoding_back(alphabet: int) -> None:
    values = fresh(20, alphabet, SEED)
    encoded = encode(values, alphabet)
    assert encoded.shape == (20, 25, alphabet)
    assert (encoded.sum(axis=-1) == 1).all()
    assert (decode(encoded) == values).all()


@pytest.mark.parametrize("value", [-1, 5])
def test_a_value_outside_of_the_alphabet_is_not_encoded(value: int) -> None:
    with pytest.raises(IndexError):
        encode(fresh(1, 5, SEED) * 0 + value, 5)


def test_the_page_has_every_claim_and_its_pictures(tmp_path: Path) -> None:
    findings = Findings(pictures={"lines": figure()[0]})
    findings.at_most("error | gap", 1e-6, 2e-6, ".1e")
    findings.tell("read were", "made reviews")
    page = write_page([Run(CATALOG["1c"], findings, 7, 12.4, quick=True)], tmp_path).read_text()
    assert "| error \\| gap | <= 1.0e-06 | 2.0e-06 | **does not hold** |" in page
    assert "| read were |  | made reviews |  |" in page
    assert "Seed 7, 12 s of CPU, quick form." in page
    title = "partial sequences, the two ways compared"
    assert f"| [1c](#1c-partial-sequences-the-two-ways-compared) | {title} | **1 of 1 do not hold** | 12 s |" in page
    assert page.index("made reviews") < page.index("](experiments-1c-lines.png)")
    assert "](experiments-1c-lines.png)" in page
    assert (tmp_path / "experiments-1c-lines.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_lists_every_experiment() -> None:
    done = CliRunner().invoke(experiments, ["list"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == list(CATALOG)
