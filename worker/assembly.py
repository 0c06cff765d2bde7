"""Build a worker from its settings: the one place that knows every part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from worker.artifact import read_artifact
from worker.checkpoint import CheckpointStore, CheckpointWriter
from worker.checkpoint.packing import Packing, keys_of
from worker.dead_letters import BadRecordLimit
from worker.engine import Engine
from worker.errors import FatalFault, Refused, UsageError
from worker.formats import new_reader, new_writer
from worker.kafka import FlushingSink, Sink, Source, TransactionalSink
from worker.kafka.admin import Cluster
from worker.kafka.rights import worker_rights
from worker.loop import Worker
from worker.metrics import Metrics
from worker.model.tensorflow_setup import setup_tensorflow
from worker.observer import Observer, TimedModel
from worker.pages.health import Health, pages
from worker.pages.server import Serving
from worker.recovery.keeper import StateKeeper
from worker.recovery.start import Policies
from worker.settings import Settings
from worker.state.order import Order
from worker.state.partition import Extras
from worker.state.sequences import REASONS
from worker.tracing.context import Tracing

log = structlog.get_logger("cellstream")

TOPICS_WITHIN_S = 3.0


@contextmanager
def assemble(settings: Settings, serving: Serving) -> Iterator[Worker]:
    """A worker that is ready for `startup`, its pages served for as long as the context lasts.

    Args:
        settings: the worker's.
        serving: serves /metrics, /live and /ready while the context that it gives lasts, which says where.

    Raises:
        CellstreamError: the artifact cannot be used, a topic is not there, or no broker answers.
    """
    assert settings.artifact is not None
    artifact = read_artifact(settings.artifact)
    conf = {"client.id": f"cellstream-{settings.instance_id}", **settings.kafka_conf()}
    reader = new_reader(settings, artifact.manifest.features)
    cluster = Cluster(conf)
    cluster.expect(worker_rights(settings))
    topic_id = _existing_topics(cluster, settings)
    retention_ms = _retention_ms(cluster, settings.input_topic)
    setup_tensorflow()
    from worker.model.step_model import load_step_model

    model = load_step_model(artifact)
    manifest = artifact.manifest
    metrics = Metrics(reset_reasons=REASONS[1:])
    metrics.set_model(artifact.digest, model.features, model.probabilities, model.state_size)
    metrics.live_streams_limit.set(settings.max_streams_per_partition)
    health = Health()
    tracing = _tracing(settings, metrics, artifact.digest[:12])
    decisions = () if manifest.decision is None else manifest.decision.classes
    engine = Engine(
        TimedModel(model, metrics),
        reader,
        new_writer(settings, manifest.classes, artifact.digest[:12], decisions),
        settings.input_topic,
        settings.sequence_length,
        settings.idle_timeout_s,
        _order(settings),
        settings.missing == "last",
        tracing,
    )
    packing = Packing(compress=settings.checkpoint_compression == "zstd", keys=keys_of(settings.checkpoint_secret))
    store = CheckpointStore(settings.checkpoints, settings.group_id, model.layout, packing=packing)
    keeper = StateKeeper(
        CheckpointWriter(store, settings.checkpoints_kept),
        model.initial_state,
        settings.max_streams_per_partition,
        artifact.digest,
        Policies(
            settings.start_from,
            settings.on_lost_state,
            settings.on_lost_offsets,
            settings.on_model_change,
            settings.on_new_partitions,
        ),
        settings.checkpoint_interval_s,
        settings.checkpoint_interval_records,
        extras=Extras(settings.judges_order, len(manifest.features) if settings.missing == "last" else 0),
    )
    worker = Worker(
        Source(conf, settings.input_topic, settings.group_id),
        _sink(settings, conf),
        engine,
        keeper,
        Observer(metrics, health, retention_ms, tracing=tracing),
        BadRecordLimit(settings.max_bad_ratio),
        artifact.digest,
        topic_id,
        settings.commit_interval_ms / 1000,
        settings.poll_records,
    )
    with serving(pages(metrics, health)) as address:
        log.info("metrics", address=address)
        model.start_compiling()
        try:
            yield worker
        finally:
            model.stop_compiling()
            if tracing is not None:
                tracing.close()


def _existing_topics(cluster: Cluster, settings: Settings) -> str:
    """The input topic's ID; topics that were just created are not known to every broker at once.

    Raises:
        Refused: one of the three topics does not exist.
    """
    names = (settings.input_topic, settings.output_topic, settings.dead_letter_topic)
    deadline = time.monotonic() + TOPICS_WITHIN_S
    while True:
        topics = cluster.topics(names, with_settings=False)
        missing = [name for name in names if name not in topics]
        if not missing:
            return topics[settings.input_topic].topic_id
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    raise Refused(f"missing on {settings.bootstrap_servers}: {', '.join(missing)}. Create with `cellstream topics`")


def _retention_ms(cluster: Cluster, topic: str) -> int | None:
    """How long the input topic keeps records; None for ever, or when this principal may not ask.

    Raises:
        Refused: the topic is compacted: the log could not rebuild a state (RELIABILITY rule 17).
    """
    try:
        settings = cluster.topics([topic])[topic].settings
    except FatalFault as fault:
        log.info("input_settings_unknown", topic=topic, reason=str(fault))
        return None
    if "compact" in settings.get("cleanup.policy", ""):
        raise Refused(
            f"topic {topic} is compacted: records that a state is made of may vanish from its log. Set its "
            "cleanup.policy to delete"
        )
    retention_ms = int(settings.get("retention.ms", -1))
    return retention_ms if retention_ms >= 0 else None


def _tracing(settings: Settings, metrics: Metrics, model: str) -> Tracing | None:
    """What becomes of trace contexts.

    Raises:
        UsageError: spans are wanted, and the extra is not installed, or one of its variables says what it cannot do.
    """
    if settings.trace == "off":
        return None
    if settings.trace == "headers":
        return Tracing()
    from worker.tracing.spans import SpanTracing

    names = settings.input_topic, settings.group_id, settings.instance_id
    try:
        return SpanTracing(*names, settings.trace_sampling_ratio, metrics, attributes={"cellstream.model": model})
    except ValueError as fault:
        raise UsageError(f"trace=spans: OpenTelemetry refuses one of its variables, OTEL_*: {fault}") from None


def _order(settings: Settings) -> Order | None:
    """What judges the records' own timesteps; a kind that nothing was said of is accepted, and counted."""
    if not settings.judges_order:
        return None
    idle_ms = None if settings.idle_timeout_s is None else round(settings.idle_timeout_s * 1000)
    return Order(
        settings.on_duplicate or "accept",
        settings.on_late or "accept",
        settings.on_gap or "accept",
        settings.sequence_length,
        idle_ms,
    )


def _sink(settings: Settings, conf: dict[str, str]) -> Sink:
    topics = settings.output_topic, settings.dead_letter_topic
    if settings.delivery == "at_least_once":
        return FlushingSink(conf, *topics)
    return TransactionalSink(conf, *topics, settings.transactional_id, settings.instance_id)
