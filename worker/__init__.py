"""cellstream's worker: recurrent models on live Kafka streams.

`StreamingModel` is the engine for programs that need no Kafka; everything else is reached by the `cellstream` command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.streaming import StreamingModel

__all__ = ["StreamingModel"]


def __getattr__(name: str) -> Any:
    """Import `StreamingModel` when it is asked for, so that a light command stays light."""
    if name == "StreamingModel":
        from worker.streaming import StreamingModel

        return StreamingModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
