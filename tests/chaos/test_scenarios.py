"""The scenarios that CI plays: at least thirty faults on a real broker, in a few minutes.

`CHAOS_SEED` sets the seed, which is printed with every failure; `CHAOS_ALL=1` plays the long ones, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers.fixtures import TestCluster
from tests.chaos.nursery import Nursery
from tests.chaos.scenarios import SCENARIOS, Context, Skipped

SEED = int(os.environ.get("CHAOS_SEED", "1"))
SHORT = (
    "failpoints",
    "kill",
    "two-of-one-name",
    "store:flipped",
    "store:full",
    "input-deleted",
    "offsets-deleted",
    "topic-recreated",
    "hostile",
)
CHOSEN = tuple(SCENARIOS) if os.environ.get("CHAOS_ALL") else SHORT

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("nursery")) as nursery:
        yield nursery


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CHOSEN)
def test_every_law_holds_through(
    kafka: TestCluster, artifact: Path, tmp_path: Path, nursery: Nursery, name: str
) -> None:
    print(f"again with: make chaos SCENARIO={name} SEED={SEED}")
    context = Context(kafka, artifact, tmp_path, SEED, nursery)
    try:
        SCENARIOS[name].play(context)
    except Skipped as reason:  # a fault that this machine cannot be made to show: no right to mount a small disk
        pytest.skip(str(reason))
    assert context.faults.total() > 0, "nothing was done"
