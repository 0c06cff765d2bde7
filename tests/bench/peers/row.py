"""The rows of the peers: cellstream, one process, over each that was built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from confluent_kafka import TopicPartition

from tests.bench.peers.check import check
from tests.bench.peers.programs import PEERS, Model, Peer
from tests.bench.peers.weights import write_weights
from worker.bench.aims import Aim, Measured, spread
from worker.bench.contestant import Contestant, Lap
from worker.bench.rows.rates import RATE
from worker.bench.stage import Stage
from worker.errors import FatalFault

CHECKED, CHECKED_STREAMS = 500, 50
STALL_S = 300.0  # Flink takes 25 s to start where nothing else runs
TIMEOUT_S = 30.0
HEADINGS = ("contestant", "samples/s", "CPU us", "cellstream / it", "first s", "largest difference")


class Uncommitted(Contestant):
    """Counts the records of the output topic, for a peer that commits no offsets of a group."""

    _before = 0
    _loaded = 0

    def _watch(self, before: Mapping[int, int], after: Mapping[int, int], records: int) -> Lap:
        self._before, self._loaded = self._loaded, self._loaded + records
        return super()._watch(before, after, records)

    def _done(self, before: Mapping[int, int], after: Mapping[int, int]) -> int:
        topic = self.settings["output_topic"]
        places = [TopicPartition(topic, partition) for partition in before]
        ends = [self._reader.get_watermark_offsets(place, timeout=TIMEOUT_S, cached=False)[1] for place in places]
        return max(0, sum(ends) - self._before)


@dataclass(frozen=True)
class Found:
    """What was measured of one peer, and of cellstream in the same rounds."""

    peer: Peer
    theirs: Sequence[Lap]
    ours: Sequence[Lap]
    first_s: float
    difference: float

    @property
    def ratios(self) -> tuple[float, ...]:
        """Cellstream's rate over the peer's, within each round."""
        return tuple(a.rate / b.rate for a, b in zip(self.ours, self.theirs, strict=True))

    def row(self) -> Measured:
        """For the table of aims."""
        guarantee = "exactly once" if self.peer.commits else "it at least once"
        ours, theirs = ([lap.rate for lap in laps] for laps in (self.ours, self.theirs))
        return Measured(
            f"over {self.peer.name}, {guarantee}: samples/s",
            Aim(self.peer.times, at_least=True, form="{:.1f}"),
            self.ratios,
            f"{spread(ours, RATE)} by {spread(theirs, RATE)}",
            curves={self.peer.name: theirs},
        )

    def cells(self) -> tuple[str, ...]:
        """What stands below `HEADINGS`."""
        return (
            self.peer.name,
            spread([lap.rate for lap in self.theirs], "{:,.0f}"),
            spread([lap.cpu_us for lap in self.theirs], "{:,.1f}"),
            spread(self.ratios, "{:.1f}"),
            f"{self.first_s:.1f}",
            f"{self.difference:.0e}",
        )


def missing() -> str:
    """A sentence on what is not built; empty where all is."""
    names = [peer.name for peer in PEERS if not peer.built]
    return f"not built and so not measured: {'; '.join(names)} (run `make peers`)" if names else ""


def peers(stage: Stage) -> list[Measured]:
    """A row for each peer that was built, all of them beside the same worker; none where none was built.

    A peer that fails takes no other with it; it is named below the table.

    Raises:
        FatalFault: all of them failed.
    """
    built = [peer for peer in PEERS if peer.built]
    if not built:
        return []
    manifest, scale = stage.artifact.manifest, stage.scale
    weights = write_weights(stage.artifact, stage.folder / "peers.weights")
    model = Model(weights, len(manifest.features), stage.artifact.digest[:12])
    found, failed = [], []
    with stage.contestant("cellstream") as worker:
        stage.say("cellstream: start and warm-up")
        worker.warm_up(max(100, scale.records // 10), scale.streams, scale.rest)
        for peer in built:
            try:
                found.append(_measure(stage, peer, model, worker))
            except FatalFault as fault:
                stage.say(f"{peer.name}: {fault}")
                failed.append(peer.name)
        cells = [_worker_cells(worker), *(one.cells() for one in found)]
    if not found:
        raise FatalFault(f"not measured: {', '.join(failed)}")
    rows = [one.row() for one in found]
    beside = _table(cells) + (f"\n\nNot measured, as it failed: {', '.join(failed)}." if failed else "")
    return [*rows[:-1], replace(rows[-1], beside=beside)]


def _worker_cells(worker: Contestant) -> tuple[str, ...]:
    """The worker's line, of all rounds."""
    rates, micros = ([getattr(lap, kind) for lap in worker.laps] for kind in ("rate", "cpu_us"))
    first = f"{worker.first_output_s:.1f}"
    return "cellstream", spread(rates, "{:,.0f}"), spread(micros, "{:,.1f}"), "", first, ""


def _measure(stage: Stage, peer: Peer, model: Model, worker: Contestant) -> Found:
    """Check the peer's answers, warm it up, then laps in turn with the worker."""
    scale = stage.scale
    records = max(500, int(peer.share * scale.records))
    kind = Contestant if peer.commits else Uncommitted
    with stage.contestant("peer", command=peer.command(model), kind=kind) as other:
        stage.say(f"{peer.name}: start and check")
        other.stall_s = STALL_S
        other.first_output(CHECKED, CHECKED_STREAMS)
        difference = check(stage, other)
        stage.say(f"{peer.name}: its first {CHECKED} answers are right; warm-up")
        for _ in range(2 if scale.rest else 1):
            other.lap(records, scale.streams)
        other.laps.clear()
        ours = []
        for number in range(scale.repeats):
            stage.say(f"round {number + 1} of {scale.repeats}: {peer.name}, then cellstream")
            other.lap(records, scale.streams)
            ours.append(worker.lap(scale.records, scale.streams))
        return Found(peer, tuple(other.laps), ours, other.first_output_s, difference)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
