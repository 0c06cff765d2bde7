"""The race: three contestants, rounds, and the check that two of them answer the same.

A round is one lap of each contestant in turn, so that a machine that gets busy or hot meets all of them; ratios
are taken within a round. The processes stay up between rounds and rest while another one runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from confluent_kafka import Consumer, TopicPartition

from worker.bench.contestant import Contestant
from worker.bench.report import Report, Row, Spread
from worker.bench.stage import Stage
from worker.errors import FatalFault
from worker.settings import Settings

CONTESTANTS = ("passthrough", "cellstream", "batch-of-one")
TOLERANCE = 1e-4
TIMEOUT_S = 30.0


def run_race(stage: Stage, names: Sequence[str] = CONTESTANTS) -> Report:
    """Measure contestants side by side.

    Args:
        stage: brokers, artifact, sizes.
        names: out of `CONTESTANTS`, in running order.

    Raises:
        FatalFault: a contestant failed or stalled, or cellstream and the batch-of-one loop disagree.
    """
    scale = stage.scale
    records = {name: scale.slow_records if name == "batch-of-one" else scale.records for name in names}
    with ExitStack() as stack:
        contestants = []
        for name in names:
            stage.say(f"{name}: start and warm-up")
            contestant = stack.enter_context(stage.contestant(name))
            contestant.warm_up(max(100, records[name] // 10), scale.streams, scale.rest)
            contestants.append(contestant)
        for i in range(scale.repeats):
            for contestant in contestants:
                stage.say(f"round {i + 1} of {scale.repeats}: {contestant.name}")
                contestant.lap(records[contestant.name], scale.streams)
        stage.say("comparing probabilities")
        difference, compared = _compare(stage.settings, contestants)
        return _report(stage, contestants, difference, compared)


def _compare(settings: Settings, contestants: Sequence[Contestant]) -> tuple[float | None, int]:
    """Largest difference of two contestants' probabilities for the same samples.

    Their first volleys begin with the same records at the same coordinates, because the seeds are the same.
    """
    by_name = {contestant.name: contestant for contestant in contestants}
    if not {"cellstream", "batch-of-one"} <= by_name.keys():
        return None, 0
    wanted = by_name["batch-of-one"].first_volley
    slow = answers(settings, by_name["batch-of-one"].settings["output_topic"], wanted)
    fast = answers(settings, by_name["cellstream"].settings["output_topic"], wanted)
    largest = 0.0
    for source, (stream, timestep, probability) in slow.items():
        stream_too, timestep_too, probability_too = fast[source]
        difference = abs(probability - probability_too)
        if (stream, timestep) != (stream_too, timestep_too) or not difference <= TOLERANCE:
            raise FatalFault(
                f"sample {source}: cellstream said {fast[source]}, the batch-of-one loop {slow[source]}; "
                f"expected a difference of at most {TOLERANCE}"
            )
        largest = max(largest, difference)
    return largest, len(slow)


Answer = tuple[str, int, float]


def answers(settings: Settings, topic: str, ends: Mapping[int, int]) -> dict[tuple[int, int], Answer]:
    """Input coordinate -> stream, timestep and probability, for all input records below `ends`.

    Raises:
        FatalFault: an answer is missing.
    """
    reader = Consumer({**settings.kafka_conf(), "group.id": topic, "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, partition, 0) for partition in ends])
    found: dict[tuple[int, int], Answer] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while len(found) < sum(ends.values()):
        for message in reader.consume(1_000, 0.2):
            event = json.loads(message.value())
            partition, offset = event["source"]
            if offset < ends[partition]:
                found[partition, offset] = (event["stream_id"], event["timestep"], event["probability"])
        if time.monotonic() > deadline:
            raise FatalFault(f"topic {topic}: expected {sum(ends.values())} first outputs, found {len(found)}")
    reader.close()
    return found


def _report(stage: Stage, contestants: Sequence[Contestant], difference: float | None, compared: int) -> Report:
    laps = {contestant.name: contestant.laps for contestant in contestants}

    def ratio(name: str, other: str) -> Spread | None:
        if not {name, other} <= laps.keys():
            return None
        return Spread.of([a.rate / b.rate for a, b in zip(laps[name], laps[other], strict=True)])

    rows = tuple(
        Row(
            name=contestant.name,
            samples_per_s=Spread.of([lap.rate for lap in contestant.laps]),
            cpu_us=Spread.of([lap.cpu_us for lap in contestant.laps]),
            ratio=ratio(contestant.name, "passthrough"),
            first_output_s=contestant.first_output_s,
            rss_bytes=contestant.rss_bytes,
            laps=tuple(contestant.laps),
        )
        for contestant in contestants
    )
    conditions = {**stage.conditions(), "slow_records": stage.scale.slow_records, "delivery": "exactly_once"}
    return Report(conditions, rows, ratio("cellstream", "batch-of-one"), difference, compared)
