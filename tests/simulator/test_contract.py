"""The simulator behaves as Kafka does: the same programs of client calls see the same on both."""

from __future__ import annotations

import pytest

from tests.brokers.fixtures import TestCluster
from tests.simulator import sides
from tests.simulator.programs import PROGRAMS


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_sees_the_same_on_the_simulator_and_on_a_real_broker(kafka: TestCluster, program: str) -> None:
    run = PROGRAMS[program]
    assert sides.simulated().observe(run) == sides.real(kafka).observe(run)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_comes_to_its_end_on_the_simulator(program: str) -> None:
    assert sides.simulated().observe(PROGRAMS[program])
