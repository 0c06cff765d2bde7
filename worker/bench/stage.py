"""Where rows are measured: brokers, an artifact, and contestants that leave nothing behind."""

from __future__ import annotations

import os
import platform
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from worker.artifact import Artifact, read_artifact, write_artifact
from worker.bench.contestant import Contestant
from worker.bench.volley import Traffic, Volleys
from worker.installed import installed_version
from worker.settings import Settings

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        streams: different stream IDs.
        records: of each lap, one sample each.
        slow_records: of each lap of the batch-of-one loop.
        repeats: rounds.
        partitions: of every topic.
        live: streams of the row of many live streams, and of the checkpoint.
        seconds: of each lap at a steady rate.
        rest: wait after the start until nothing is compiled any more; without it, numbers mean little.
    """

    streams: int = 10_000
    records: int = 1_000_000
    slow_records: int = 3_000
    repeats: int = 5
    partitions: int = 4
    live: int = 1_000_000
    seconds: float = 8.0
    rest: bool = True


QUICK = Scale(records=100_000, slow_records=500, repeats=1, live=50_000, seconds=3.0, rest=False)


@dataclass(frozen=True)
class Stage:
    """What every row is given.

    Attributes:
        settings: brokers, commit interval, poll size, client properties.
        artifact: of the model that is measured.
        folder: for logs, checkpoints and artifacts of the run.
        scale: how much is measured.
        say: told in a few words what is going on.
    """

    settings: Settings
    artifact: Artifact
    folder: Path
    scale: Scale
    say: Callable[[str], None]

    @property
    def traffic(self) -> Traffic:
        """One sample in JSON."""
        return Traffic(len(self.artifact.manifest.features))

    @contextmanager
    def contestant(
        self,
        name: str,
        traffic: Traffic | None = None,
        *,
        command: Sequence[str] | None = None,
        cores: Sequence[int] | None = None,
        kind: type[Contestant] = Contestant,
        **told: Any,
    ) -> Iterator[Contestant]:
        """A contestant with topics and a group of its own, not started; all of it is gone at the end.

        Args:
            name: see `Contestant`; also a part of the topics' names.
            traffic: what its input is; None is one sample in JSON.
            command: see `Contestant`.
            cores: see `Contestant`.
            kind: how its answers are counted.
            told: settings of its process that differ from the bench's own.
        """
        prefix = f"cellstream-bench-{uuid.uuid4().hex[:8]}-{name.replace(' ', '-')}"
        with self._topics(prefix):
            given = {**self._told(prefix), **told}
            volleys = Volleys(self.settings.kafka_conf(), given["input_topic"], traffic or self.traffic)
            contestant = kind(name, given, volleys, self.folder / f"{prefix}.log", command, cores)
            try:
                yield contestant
            finally:
                contestant.stop()
                volleys.close()

    def conditions(self) -> dict[str, Any]:
        """Names and values that a reader needs to compare two reports."""
        return {
            "streams": self.scale.streams,
            "records": self.scale.records,
            "rounds": self.scale.repeats,
            "partitions": self.scale.partitions,
            "commit_interval_ms": self.settings.commit_interval_ms,
            "poll_records": self.settings.poll_records,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "librdkafka": confluent_kafka.libversion()[0],
            "tensorflow": installed_version("tensorflow"),
        }

    @contextmanager
    def _topics(self, prefix: str) -> Iterator[None]:
        topics = [f"{prefix}.{kind}" for kind in ("in", "out", "dlq")]
        admin = AdminClient(self.settings.kafka_conf())
        new = [NewTopic(topic, self.scale.partitions) for topic in topics]
        for future in admin.create_topics(new, request_timeout=TIMEOUT_S).values():
            future.result()
        try:
            yield
        finally:
            # A peer adds topics of its own.
            made = [topic for topic in admin.list_topics(timeout=TIMEOUT_S).topics if prefix in topic]
            for future in admin.delete_topics(made, request_timeout=TIMEOUT_S).values():
                future.exception(TIMEOUT_S)  # what cannot be deleted stays, under a name that says whose it is
            for future in admin.delete_consumer_groups([prefix], request_timeout=TIMEOUT_S).values():
                future.exception(TIMEOUT_S)

    def _told(self, prefix: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.settings.bootstrap_servers,
            "kafka": self.settings.kafka,
            "group_id": prefix,
            "instance_id": "bench",
            "input_topic": f"{prefix}.in",
            "output_topic": f"{prefix}.out",
            "dead_letter_topic": f"{prefix}.dlq",
            "artifact": self.artifact.directory,
            "checkpoints": self.folder / prefix,
            "commit_interval_ms": self.settings.commit_interval_ms,
            "poll_records": self.settings.poll_records,
            "metrics_port": 0,
        }


@contextmanager
def open_stage(settings: Settings, scale: Scale, say: Callable[[str], None]) -> Iterator[Stage]:
    """A stage on the settings' brokers, with their artifact or else a 32-16-8 LSTM of 3 features, random weights."""
    with tempfile.TemporaryDirectory(prefix="cellstream-bench-") as name:
        folder = Path(name)
        say("artifact")
        if settings.artifact:
            artifact = read_artifact(settings.artifact)
        else:
            artifact = lstm_artifact(folder / "artifact", (32, 16, 8))
        yield Stage(settings, artifact, folder, scale, say)


def lstm_artifact(directory: Path, units: Sequence[int]) -> Artifact:
    """An LSTM of 3 features and one probability, with random weights."""
    from worker.model.tensorflow_setup import setup_tensorflow

    setup_tensorflow()
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, 3))])
    for width in units:
        model.add(layers.LSTM(width, return_sequences=True))
        model.add(layers.LeakyReLU(negative_slope=0.3))
        model.add(layers.Dropout(0.2))
    model.add(layers.Dense(1, activation="sigmoid"))
    return write_artifact(model, directory, features=("x", "y", "z"), classes=("positive",))
