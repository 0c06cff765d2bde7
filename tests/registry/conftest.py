"""One small registry for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.registry.small import SmallRegistry, small_registry


@pytest.fixture(scope="module")
def registry() -> Iterator[SmallRegistry]:
    with small_registry() as running:
        yield running
