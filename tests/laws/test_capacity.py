"""Laws of the plan for so many streams, and the page that shows it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from worker.capacity import Costs, Demand, plan, stream_bytes
from worker.cli import app
from worker.commands.plan import rows

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()

DEMANDS = st.builds(
    Demand,
    streams=st.integers(1, 10**9),
    samples_per_s=st.floats(0, 1e8),
    state_size=st.integers(1, 100_000),
    number_bytes=st.sampled_from((2, 4)),
    id_bytes=st.integers(1, 256),
    interval_s=st.floats(1, 3600),
    kept=st.integers(2, 10),
    memory_bytes=st.integers(1 << 30, 1 << 40),
    busy=st.floats(0.05, 1),
)


@given(DEMANDS)
def test_a_plan_carries_its_demand_with_one_worker_away(demand: Demand) -> None:
    costs = Costs()
    found = plan(demand, costs)
    left = found.workers - 1
    assert left >= 1
    assert found.worker_busy * found.workers <= demand.busy * left * (1 + 1e-9)
    room = demand.memory_bytes - costs.process_bytes
    assert demand.streams * stream_bytes(demand, costs) <= room * left * (1 + 1e-9)
    assert found.streams_each * found.partitions >= demand.streams
    assert found.partitions >= found.workers


@given(DEMANDS, st.integers(2, 10))
def test_more_of_anything_never_takes_less(demand: Demand, times: int) -> None:
    costs = Costs()
    least = plan(demand, costs)
    for more in (
        replace(demand, streams=demand.streams * times),
        replace(demand, samples_per_s=demand.samples_per_s * times),
        replace(demand, state_size=demand.state_size * times),
        replace(demand, interval_s=demand.interval_s / times),
    ):
        assert plan(more, costs).workers >= least.workers


@given(DEMANDS)
def test_the_whole_is_what_its_parts_are(demand: Demand) -> None:
    found = plan(demand, Costs())
    assert found.restart_s >= found.load_s + found.replay_s
    assert found.takeover_s <= found.restart_s or found.workers == 2
    assert found.saved_bytes_per_s * demand.interval_s * (demand.kept + 1) <= found.store_bytes * (1 + 1e-9)
    assert found.checkpoint_bytes * found.partitions * (demand.kept + 1) >= found.store_bytes * (1 - 1e-9)


def test_the_table_of_the_page_is_what_the_command_says() -> None:
    tables = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    heading = next(cells for cells in tables if cells[0].strip() == "streams")
    sizes = [int(re.sub(r"\D", "", cell)) for cell in heading[1:]]
    shown = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in tables if len(cells) == len(heading)}
    assert len(sizes) == 3
    plans = [rows(plan(Demand(streams, streams / 10, 112), Costs())) for streams in sizes]
    for what in plans[0]:
        assert shown[what] == [found[what] for found in plans], what


def test_the_command_says_its_plan_and_refuses_a_worker_without_room() -> None:
    asked = ["plan", "--streams", "1000000", "--samples-per-s", "100000"]
    said = CliRunner().invoke(app, [*asked, "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.output)["workers"] == plan(Demand(1_000_000, 100_000, 112), Costs()).workers
    shown = CliRunner().invoke(app, asked)
    assert "of which one may be away" in shown.output
    dearer = json.loads(CliRunner().invoke(app, [*asked, "--json", "--sample-us", "78"]).output)
    assert dearer["worker_busy"] * dearer["workers"] > 7.8
