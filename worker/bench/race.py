"""The race: topics, contestants, rounds, and the check that two of them answer the same.

A round is one lap of each contestant in turn, so that a machine that gets busy or hot meets all of them; ratios
are taken within a round. The processes stay up between rounds and rest while another one runs.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from worker.artifact import Artifact, read_artifact, write_artifact
from worker.bench.contestant import Contestant
from worker.bench.report import Report, Row, Spread
from worker.bench.volley import Volleys
from worker.errors import FatalFault
from worker.settings import Settings

CONTESTANTS = ("passthrough", "cellstream", "batch-of-one")
TOLERANCE = 1e-4
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        contestants: names out of `CONTESTANTS`, in running order.
        streams: different stream IDs.
        records: of each lap, one sample each.
        slow_records: of each lap of the batch-of-one loop.
        repeats: rounds.
        partitions: of every topic.
    """

    contestants: tuple[str, ...] = CONTESTANTS
    streams: int = 10_000
    records: int = 1_000_000
    slow_records: int = 3_000
    repeats: int = 3
    partitions: int = 4

    def records_of(self, name: str) -> int:
        """Records of one lap of a contestant."""
        return self.slow_records if name == "batch-of-one" else self.records


def run_bench(settings: Settings, plan: Plan, say: Callable[[str], None]) -> Report:
    """Measure all contestants of the plan on the settings' brokers.

    Args:
        settings: brokers, artifact (None: a 32-16-8 LSTM of 3 features with random weights), commit interval, client
            properties. Topics and groups get names of their own and are deleted afterwards.
        plan: how much is measured.
        say: told in a few words what is going on.

    Raises:
        FatalFault: a contestant failed or stalled, or cellstream and the batch-of-one loop disagree.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellstream-bench-")))
        say("artifact")
        artifact = read_artifact(settings.artifact) if settings.artifact else _default_artifact(folder / "artifact")
        say("topics")
        names = stack.enter_context(_topics(settings, plan))
        contestants = []
        for name in plan.contestants:
            told = _told(settings, artifact, folder, name, names[name])
            features = len(artifact.manifest.features)
            volleys = Volleys(settings.kafka_conf(), told["input_topic"], plan.streams, features)
            stack.callback(volleys.close)
            contestant = Contestant(name, told, volleys, folder / f"{name}.log")
            stack.callback(contestant.stop)
            say(f"{name}: start and warm-up")
            contestant.warm_up(max(100, plan.records_of(name) // 10))
            contestants.append(contestant)
        for i in range(plan.repeats):
            for contestant in contestants:
                say(f"round {i + 1} of {plan.repeats}: {contestant.name}")
                contestant.lap(plan.records_of(contestant.name))
        say("comparing probabilities")
        difference, compared = _compare(settings, contestants)
        return _report(settings, plan, contestants, difference, compared)


def _default_artifact(directory: Path) -> Artifact:
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, 3))])
    for units in (32, 16, 8):
        model.add(layers.LSTM(units, return_sequences=True))
        model.add(layers.LeakyReLU(negative_slope=0.3))
        model.add(layers.Dropout(0.2))
    model.add(layers.Dense(1, activation="sigmoid"))
    return write_artifact(model, directory, features=("x", "y", "z"), classes=("positive",))


@contextmanager
def _topics(settings: Settings, plan: Plan) -> Iterator[dict[str, str]]:
    """Topics for each contestant; yields the prefix of their names."""
    run = uuid.uuid4().hex[:8]
    prefixes = {name: f"cellstream-bench-{run}-{name}" for name in plan.contestants}
    topics = [f"{prefix}.{kind}" for prefix in prefixes.values() for kind in ("in", "out", "dlq")]
    admin = AdminClient(settings.kafka_conf())
    created = admin.create_topics([NewTopic(topic, plan.partitions) for topic in topics], request_timeout=TIMEOUT_S)
    for future in created.values():
        future.result()
    try:
        yield prefixes
    finally:
        for future in admin.delete_topics(topics, request_timeout=TIMEOUT_S).values():
            future.exception(TIMEOUT_S)  # what cannot be deleted stays, under a name that says whose it is
        for future in admin.delete_consumer_groups(list(prefixes.values()), request_timeout=TIMEOUT_S).values():
            future.exception(TIMEOUT_S)


def _told(settings: Settings, artifact: Artifact, folder: Path, name: str, prefix: str) -> dict[str, Any]:
    """The settings of one contestant's process."""
    return {
        "bootstrap_servers": settings.bootstrap_servers,
        "kafka": settings.kafka,
        "group_id": prefix,
        "instance_id": "bench",
        "input_topic": f"{prefix}.in",
        "output_topic": f"{prefix}.out",
        "dead_letter_topic": f"{prefix}.dlq",
        "artifact": artifact.directory,
        "checkpoints": folder / name,
        "commit_interval_ms": settings.commit_interval_ms,
        "poll_records": settings.poll_records,
        "metrics_port": 0,
    }


def _compare(settings: Settings, contestants: Sequence[Contestant]) -> tuple[float | None, int]:
    """Largest difference of two contestants' probabilities for the same samples.

    Their first volleys begin with the same records at the same coordinates, because the seeds are the same.
    """
    by_name = {contestant.name: contestant for contestant in contestants}
    if not {"cellstream", "batch-of-one"} <= by_name.keys():
        return None, 0
    wanted = by_name["batch-of-one"].first_volley
    slow = _answers(settings, by_name["batch-of-one"], wanted)
    fast = _answers(settings, by_name["cellstream"], wanted)
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


def _answers(settings: Settings, contestant: Contestant, ends: Mapping[int, int]) -> dict[tuple[int, int], Answer]:
    """Input coordinate -> stream, timestep and probability, for all input records below `ends`."""
    topic = contestant.settings["output_topic"]
    reader = Consumer({**settings.kafka_conf(), "group.id": topic, "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, partition, 0) for partition in ends])
    answers: dict[tuple[int, int], Answer] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while len(answers) < sum(ends.values()):
        for message in reader.consume(1_000, 0.2):
            event = json.loads(message.value())
            partition, offset = event["source"]
            if offset < ends[partition]:
                answers[partition, offset] = (event["stream_id"], event["timestep"], event["probability"])
        if time.monotonic() > deadline:
            raise FatalFault(f"topic {topic}: expected {sum(ends.values())} first outputs, found {len(answers)}")
    reader.close()
    return answers


def _report(
    settings: Settings, plan: Plan, contestants: Sequence[Contestant], difference: float | None, compared: int
) -> Report:
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
    conditions = {
        "streams": plan.streams,
        "records": plan.records,
        "slow_records": plan.slow_records,
        "rounds": plan.repeats,
        "partitions": plan.partitions,
        "commit_interval_ms": settings.commit_interval_ms,
        "poll_records": settings.poll_records,
        "delivery": "exactly_once",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "tensorflow": version("tensorflow"),
    }
    return Report(conditions, rows, ratio("cellstream", "batch-of-one"), difference, compared)
