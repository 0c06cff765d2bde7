"""`cellstream rekey`: a topic keyed otherwise -> one keyed by stream ID."""

from __future__ import annotations

import json
import logging
import time
from threading import Event
from typing import Annotated

import structlog
import typer

from worker.codecs import JSON, MSGPACK, StreamIdField
from worker.commands.run import stopped_by_signals
from worker.dead_letters import BadRecordLimit
from worker.errors import FatalFault, Refused, UsageError
from worker.field_paths import field_path
from worker.kafka import CopySink, Source
from worker.kafka.admin import Cluster, Topic
from worker.kafka.rights import rekey_group, rekey_rights
from worker.logs import configure_logging
from worker.registry.values import registered_values
from worker.rekey import Copier, Places, Rekeyer
from worker.settings.model import REGISTERED, Settings
from worker.settings.options import with_settings

log = structlog.get_logger("cellstream")


@with_settings(
    "bootstrap_servers", "group_id", "instance_id", "input_topic", "dead_letter_topic", "stream_id_from",
    "input_codec", "start_from", "max_record_bytes", "max_bad_ratio", "commit_interval_ms", "poll_records",
    "schema_registry_url", "schema_registry_auth", "log_format", "log_level",
)  # fmt: skip
def rekey(
    settings: Settings,
    *,
    from_topic: Annotated[str, typer.Option(help="The topic that is copied.")],
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End when everything is copied that was there at the start.")
    ] = False,
    append: Annotated[
        bool, typer.Option("--append", help="Begin although the input topic has records that this group did not copy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Copy a topic into the input topic, each record under its stream ID, exactly once.

    The copy keeps value, headers and timestamp; its key is the stream ID, which `--stream-id-from` finds, and its
    partition the one that Java's producer would choose (murmur2). The records of one stream stay in the order of the
    partition that they come from. A record without a usable stream ID goes to the dead-letter topic.

    It runs until SIGTERM or Ctrl-C, or with `--until-end` until it has caught up, and goes on where it ended when it is
    started again. Start more of them, each with an instance ID of its own, to share the partitions. Its consumer group
    is `GROUP_ID-rekey-FROM_TOPIC`.

    Example: `cellstream rekey --from-topic raw --input-topic samples --stream-id-from header:device --until-end`
    """
    if from_topic in (settings.input_topic, settings.dead_letter_topic):
        raise UsageError(f"--from-topic {from_topic}: it is written to as well; name three different topics")
    configure_logging(settings.log_format, settings.log_level)
    logging.getLogger("librdkafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    begun = time.monotonic()
    stop = Event()
    with stopped_by_signals(stop):
        group_id = rekey_group(settings, from_topic)
        cluster = Cluster({"client.id": f"cellstream-{settings.instance_id}", **settings.kafka_conf()})
        cluster.expect(rekey_rights(settings, from_topic))
        origin, target = _topics(cluster, settings, from_topic)
        rekeyer = _assemble(settings, origin, group_id, until_end)
        try:
            # In this order: what another member has just committed came with its offsets.
            has_records = cluster.has_records(target)
            survey = rekeyer.startup(origin.partitions)
            if has_records and not survey.committed and not append:
                raise Refused(
                    f"topic {target.name} has records, and group {group_id} has no offsets: either it is new, or Kafka "
                    "forgot them (offsets.retention.minutes) and what was copied before would be copied again. Say "
                    f"--append to begin all the same, at the {settings.start_from} records (--start-from)"
                )
            log.info("started", from_topic=from_topic, input_topic=target.name, group_id=group_id)
            ends = {partition: high for partition, (_, high) in survey.bounds.items()}
            caught_up = rekeyer.run(stop, ends if until_end else None)
        except BaseException:
            rekeyer.fail()
            raise
        rekeyer.shutdown()
    totals = rekeyer.progress
    summary = {"copied": totals.copied, "dead_letters": totals.dead_letters, "seconds": time.monotonic() - begun}
    if as_json:
        print(json.dumps({**summary, "seconds": round(summary["seconds"], 3), "interrupted": until_end != caught_up}))
    else:
        letters = f", {totals.dead_letters:,} to {settings.dead_letter_topic}" if totals.dead_letters else ""
        print(f"{totals.copied:,} records of {from_topic} to {target.name}{letters} in {summary['seconds']:.1f} s")
    if until_end and not caught_up:
        raise FatalFault("interrupted before the end; what was copied is committed, start it again to go on")


def _topics(cluster: Cluster, settings: Settings, from_topic: str) -> tuple[Topic, Topic]:
    names = (from_topic, settings.input_topic, settings.dead_letter_topic)
    topics = cluster.topics(names, with_settings=False)
    missing = [name for name in names if name not in topics]
    if missing:
        raise Refused(
            f"missing on {settings.bootstrap_servers}: {', '.join(missing)}. `cellstream topics` creates the input and "
            "dead-letter topics; the one to copy is its producers'"
        )
    return topics[from_topic], topics[settings.input_topic]


def _assemble(settings: Settings, origin: Topic, group_id: str, until_end: bool) -> Rekeyer:
    conf = {"client.id": f"cellstream-{settings.instance_id}", **settings.kafka_conf()}
    path = field_path(settings.stream_id_from)
    objects = None
    if path is not None and settings.input_codec in REGISTERED:
        objects = registered_values(settings, settings.input_codec)
    format = JSON if settings.input_codec in ("json", "json-schema") else MSGPACK
    said = {"enable.partition.eof": "true"} if until_end else {}
    return Rekeyer(
        Source({**conf, **said}, origin.name, group_id),
        CopySink(
            conf, settings.input_topic, settings.dead_letter_topic, f"{group_id}-{settings.instance_id}",
            settings.instance_id,
        ),
        Copier(
            origin.name, settings.stream_id_from, None if path is None else StreamIdField(path, format),
            settings.max_record_bytes, objects,
        ),
        Places(origin.name, origin.topic_id, group_id, settings.start_from),
        BadRecordLimit(settings.max_bad_ratio),
        settings.commit_interval_ms / 1000,
        settings.poll_records,
    )  # fmt: skip
