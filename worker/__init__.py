"""cellstream's worker: recurrent models on live Kafka streams.

To be read from the top:

    cli, commands     what a person types; `run` is the worker
    assembly          a worker built from its settings, which settings/ reads, in the formats that they name
    loop              poll, step, produce, commit, checkpoint
      kafka           records in, outputs and offsets out
      engine          records in, outcome out: all of it that needs no Kafka
        reading       a batch as stream IDs, samples and markers; codecs/ and registry/ know the formats
        state         whose sample, which sequence, which timestep
        blocks        a poll's samples in shapes that are compiled, for model/
        event_writer  what is published, by encoding/
      recovery        where a partition begins, and its checkpoints, which checkpoint/ writes
      observer        tells metrics, pages and tracing
    members, rekey    several workers by one command; a topic copied to be keyed otherwise
    artifact          what training leaves for the worker

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
