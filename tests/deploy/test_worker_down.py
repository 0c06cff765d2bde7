"""What every run of the tests sees of the real alerts: one of them, and that no other is left out.

The others are fired by `test_alerts_fire.py`, which is imported for what its tests say that they fire.
"""

from __future__ import annotations

import pytest

from tests.deploy import test_alerts_fire  # noqa: F401
from tests.deploy.scene import Scene, fired_for_real, fires
from tests.deploy.test_alerts import ALERTS


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(600)
@fires("CellstreamWorkerDown")
def test_a_worker_that_was_killed_is_missed(scene: Scene) -> None:
    worker = scene.start()
    worker.kill()
    scene.until_firing()


def test_every_alert_is_fired_for_real_by_a_test() -> None:
    assert fired_for_real() == {rule["alert"] for rule in ALERTS}
