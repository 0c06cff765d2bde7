"""Laws of loading beside the loop: nobody waits for it, and what it raises comes out where its result is asked for."""

from __future__ import annotations

import threading

import pytest

from worker.errors import StoreUnavailable
from worker.recovery.loading import begin


def test_load_in_the_background_keeps_nobody_waiting() -> None:
    go_on = threading.Event()

    def load() -> str:
        assert go_on.wait(300)
        return "loaded"

    loading = begin(load, background=True)
    assert not loading.done(), "begin has returned, and the store has not answered yet"
    go_on.set()
    assert loading.result(300) == "loaded"


@pytest.mark.parametrize("background", [False, True])
def test_fault_of_a_load_is_raised_where_its_result_is_asked_for(background: bool) -> None:
    def load() -> None:
        raise StoreUnavailable("down")

    loading = begin(load, background=background)
    with pytest.raises(StoreUnavailable, match="down"):
        loading.result(300)


def test_load_in_the_foreground_is_done_when_begin_returns() -> None:
    assert begin(lambda: 7, background=False).done()
