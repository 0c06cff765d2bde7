"""How many workers and partitions so many streams need, with their memory, checkpoints and restores.

Everything is linear in streams and samples, by costs that were measured (docs/scaling.md): a partition's state grows by
rows, a checkpoint is a copy of them, and a replay answers samples again. What is not linear is said there, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# A checkpoint has five columns of 8 bytes beside a stream's state and ID, and where the ID ends.
COLUMNS_BYTES = 5 * 8
END_BYTES = 8
STORED_BYTES = 4  # of a number of the state, whatever it is in memory
PARTITIONS_EACH = 4  # of a worker: those of a lost one are spread, and workers may be doubled twice


@dataclass(frozen=True)
class Costs:
    """What one stream and one sample cost, in processor seconds and bytes.

    Attributes:
        sample_s: to answer a sample, in all.
        replay_s: to step it again without an answer.
        save_byte_s: to write a byte of a checkpoint.
        load_stream_s, load_byte_s: to read a stream, and a byte, back.
        process_bytes: of a worker without streams.
        stream_bytes: of a stream in memory, beside its state and the letters of its ID.
    """

    sample_s: float = 7.8e-6
    replay_s: float = 5e-6
    save_byte_s: float = 2.5e-9
    load_stream_s: float = 0.44e-6
    load_byte_s: float = 1.47e-9
    process_bytes: int = 821 << 20
    stream_bytes: int = 324


@dataclass(frozen=True)
class Demand:
    """What a deployment is to carry.

    Attributes:
        streams: live at the same time.
        samples_per_s: of all of them together.
        state_size: numbers of a stream's state.
        number_bytes: of one of them in memory.
        id_bytes: of a stream's ID.
        interval_s: seconds between two checkpoints of a partition.
        kept: checkpoints of a partition.
        memory_bytes: that a worker may take.
        busy: share of a core that a worker is to be busy at the most.
    """

    streams: int
    samples_per_s: float
    state_size: int
    number_bytes: int = 4
    id_bytes: int = 13
    interval_s: float = 30.0
    kept: int = 3
    memory_bytes: int = 8 << 30
    busy: float = 0.6

    @property
    def saved_bytes(self) -> int:
        """Of a stream in a checkpoint."""
        return self.state_size * STORED_BYTES + COLUMNS_BYTES + self.id_bytes + END_BYTES


@dataclass(frozen=True)
class Plan:
    """What it takes; one worker may be away. Bytes, seconds, and shares of a core.

    Attributes:
        workers: processes, on a core each.
        partitions: of the input topic.
        streams_each: of a partition.
        worker_bytes: memory of a worker, with all workers there.
        worker_busy: share of its core.
        checkpoint_bytes: of one partition.
        store_bytes: of all checkpoints that are kept, and one that is being written.
        saved_bytes_per_s: to the store, by all workers.
        load_s: of one partition's checkpoint.
        replay_s: of the samples that one partition gets in an interval.
        takeover_s: until the partitions of a worker that died are back, beyond the session time-out.
        restart_s: until all partitions of a worker are back that starts alone.
    """

    workers: int
    partitions: int
    streams_each: int
    worker_bytes: float
    worker_busy: float
    checkpoint_bytes: float
    store_bytes: float
    saved_bytes_per_s: float
    load_s: float
    replay_s: float
    takeover_s: float
    restart_s: float


def plan(demand: Demand, costs: Costs) -> Plan:
    """What a demand takes.

    Args:
        demand: with more memory for a worker than it takes without streams.
        costs: of the model.
    """
    saved = demand.saved_bytes
    save_s = costs.save_byte_s * saved
    load_s = costs.load_stream_s + costs.load_byte_s * saved
    busy = demand.samples_per_s * costs.sample_s + demand.streams * save_s / demand.interval_s
    memory = demand.streams * stream_bytes(demand, costs)
    room = demand.memory_bytes - costs.process_bytes
    assert room > 0, "a worker without streams takes all of the memory"
    # All the work is still done when one of them is away.
    workers = 1 + max(1, math.ceil(busy / demand.busy), math.ceil(memory / room))
    partitions = PARTITIONS_EACH * workers
    streams = math.ceil(demand.streams / partitions)
    loading = streams * load_s
    replaying = demand.samples_per_s / partitions * demand.interval_s * costs.replay_s
    taken_over = math.ceil(PARTITIONS_EACH / (workers - 1))
    return Plan(
        workers=workers,
        partitions=partitions,
        streams_each=streams,
        worker_bytes=costs.process_bytes + memory / workers,
        worker_busy=busy / workers,
        checkpoint_bytes=streams * saved,
        store_bytes=demand.streams * saved * (demand.kept + 1),
        saved_bytes_per_s=demand.streams * saved / demand.interval_s,
        load_s=loading,
        replay_s=replaying,
        takeover_s=taken_over * (loading + replaying),
        restart_s=PARTITIONS_EACH * (loading + replaying),
    )


def stream_bytes(demand: Demand, costs: Costs) -> int:
    """Of a stream in memory."""
    return demand.state_size * demand.number_bytes + costs.stream_bytes + demand.id_bytes
