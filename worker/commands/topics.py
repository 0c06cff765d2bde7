"""`cellstream topics`: create or verify the topics of a deployment."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from worker.commands.rights_report import rights_report
from worker.commands.topic_plan import HOUR_MS, PARTITIONS, Finding, Wanted, judge, status
from worker.encoding.schema import output_schema
from worker.errors import FatalFault, Refused, TransientFault
from worker.kafka.admin import BROKER_DEFAULT, Cluster, Topic
from worker.registry.client import SCHEMA_TYPES, Registry
from worker.settings import Settings
from worker.settings.options import with_settings

_VISIBLE_WITHIN_S = 10.0
_COLOURS = {"created": "green", "exists": "green", "differs": "yellow", "missing": "yellow", "unsafe": "red"}


@with_settings(
    "bootstrap_servers", "input_topic", "output_topic", "dead_letter_topic", "group_id", "delivery", "output_codec",
    "output_per", "output_subject", "schema_registry_url", "schema_registry_auth",
)  # fmt: skip
def topics(
    settings: Settings,
    *,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Partitions of each topic: of a new one {PARTITIONS}, if not given.", show_default=False
        ),
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each partition: the cluster's default, if not given.", show_default=False),
    ] = None,
    retention_hours: Annotated[
        float | None,
        typer.Option(min=0.001, help="Least retention: of a new topic a week, if not given.", show_default=False),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Verify only; create nothing.")] = False,
    acls: Annotated[
        bool,
        typer.Option("--acls", help="Print the rights that the worker needs, as lines for kafka-acls.sh; ask nobody."),
    ] = False,
    rekey: Annotated[
        str | None, typer.Option(help="With --acls: those that `cellstream rekey` needs to copy this topic.")
    ] = None,
    principal: Annotated[str, typer.Option(help="With --acls: whose rights.")] = "User:cellstream",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Create the topics that are missing, and verify those that are there.

    The input topic is the changelog of all state, so it must not be compacted nor forget within the hour: such
    a topic is refused (exit 3). One that differs from the flags given, or is missing under --check, is a failure
    (exit 1). An existing topic is never altered: the report says how to.

    With --acls it prints the least rights of a worker with these settings, for a cluster with an authorizer.

    With an output codec that takes a schema, the schema of the events is registered, or with --check looked for.

    Example: `cellstream topics --partitions 8 --replication-factor 3 --retention-hours 72`
    """
    if acls:
        typer.echo(rights_report(settings, rekey, principal, as_json))
        return
    cluster = Cluster(settings.kafka_conf())
    wanted = wanted_topics(settings, partitions, replication_factor, retention_hours)
    findings = ensure_topics(cluster, wanted, create=not check)
    schema = ensure_schema(settings, create=not check) if settings.output_codec in SCHEMA_TYPES else None
    if as_json:
        typer.echo(json.dumps(topics_report(cluster, findings) | ({"schema": schema} if schema else {}), indent=2))
    else:
        Console(highlight=False).print(topics_table(findings))
        if schema and schema["id"] is not None:
            Console(highlight=False, soft_wrap=True).print(f"schema {schema['id']} is {schema['subject']}")
    raise_problems(findings)
    if schema and schema["id"] is None:
        raise FatalFault(f"the schema is not registered as {schema['subject']}\n  -> run this without --check")


def wanted_topics(
    settings: Settings,
    partitions: int | None = None,
    replication_factor: int | None = None,
    retention_hours: float | None = None,
) -> list[Wanted]:
    """The topics of a deployment, as they were asked for."""
    names = {
        "input": settings.input_topic,
        "output": settings.output_topic,
        "dead letters": settings.dead_letter_topic,
    }
    return [Wanted(role, name, partitions, replication_factor, retention_hours) for role, name in names.items()]


def ensure_schema(settings: Settings, *, create: bool) -> dict[str, Any]:
    """Register the schema of the events, if asked to; its subject and its ID, None where there is none.

    Raises:
        Refused: it is not compatible with what is registered.
        FatalFault: the registry does not answer, or refuses.
    """
    assert settings.schema_registry_url is not None
    subject, schema_type, text = output_schema(settings)
    try:
        with Registry(settings.schema_registry_url, settings.schema_registry_auth) as registry:
            find = registry.register if create else registry.registered
            return {"subject": subject, "id": find(subject, schema_type, text)}
    except TransientFault as fault:
        raise FatalFault(str(fault)) from None


def ensure_topics(cluster: Cluster, wanted: list[Wanted], *, create: bool) -> list[Finding]:
    """Create what is missing, if asked to, and judge every topic.

    Args:
        cluster: to look at and to create on.
        wanted: the topics of a deployment.
        create: False leaves missing topics missing.

    Returns:
        One finding per wanted topic, in their order.

    Raises:
        FatalFault: the cluster does not answer or refuses.
    """
    before = cluster.topics([one.name for one in wanted])
    missing = [one for one in wanted if one.name not in before] if create else []
    for one in missing:
        factor = BROKER_DEFAULT if one.replication_factor is None else one.replication_factor
        cluster.create(one.name, one.partitions or PARTITIONS, factor, one.settings())
    after = before | (_await_topics(cluster, [one.name for one in missing]) if missing else {})
    return [_find(one, after.get(one.name), created=one in missing) for one in wanted]


def _await_topics(cluster: Cluster, names: list[str]) -> dict[str, Topic]:
    """A topic is created at the controller first; the brokers hear of it a moment later."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while len(found := cluster.topics(names)) < len(names):
        if time.monotonic() > deadline:
            absent = ", ".join(name for name in names if name not in found)
            raise FatalFault(f"created, but not visible after {_VISIBLE_WITHIN_S:g} s: {absent}; try again")
        time.sleep(0.1)
    return found


def _find(wanted: Wanted, topic: Topic | None, *, created: bool) -> Finding:
    if topic is None:
        return Finding(wanted, "missing")
    problems = judge(wanted, topic.partitions, topic.replication_factor, topic.settings)
    word = status(problems, created)
    return Finding(wanted, word, topic.topic_id, topic.partitions, topic.replication_factor, topic.settings, problems)


def topics_report(cluster: Cluster, findings: list[Finding]) -> dict[str, Any]:
    """Findings as JSON values."""
    return {"cluster_id": cluster.cluster_id(), "topics": [_as_json(finding) for finding in findings]}


def raise_problems(findings: list[Finding]) -> None:
    """Say all that is wrong with the topics, and what to do.

    Raises:
        Refused: the input topic could lose state.
        FatalFault: a topic is missing, or differs from what was asked for.
    """
    lines = [
        f"{finding.wanted.name}: {problem.what}\n  -> {problem.remedy}"
        for finding in findings
        for problem in finding.problems
    ]
    lines += [
        f"{one.wanted.name}: does not exist\n  -> run this without --check"
        for one in findings
        if one.status == "missing"
    ]
    if any(finding.status == "unsafe" for finding in findings):
        raise Refused("the input topic could lose state:\n" + "\n".join(lines))
    if lines:
        raise FatalFault("the topics are not as asked:\n" + "\n".join(lines))


def topics_table(findings: list[Finding]) -> Table:
    """Findings for a person."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("topic", overflow="fold")  # a name that is cut cannot be copied
    for heading in ("for", "status", "partitions", "copies", "cleanup", "retention"):
        table.add_column(heading, no_wrap=True)
    for finding in findings:
        colour = _COLOURS[finding.status]
        row = [finding.wanted.name, finding.wanted.role, f"[{colour}]{finding.status}[/]"]
        if finding.status != "missing":
            row += [str(finding.partitions), str(finding.replication_factor)]
            row += [finding.settings.get("cleanup.policy", "-"), _duration(finding.settings.get("retention.ms"))]
        table.add_row(*row)
    return table


def _duration(milliseconds: str | None) -> str:
    if milliseconds is None:
        return "-"
    hours = int(milliseconds) / HOUR_MS
    if hours < 0:
        return "for ever"
    return f"{hours / 24:.3g} d" if hours >= 48 else f"{hours:.3g} h"


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "topic": finding.wanted.name,
        "role": finding.wanted.role,
        "status": finding.status,
        "topic_id": finding.topic_id,
        "partitions": finding.partitions,
        "replication_factor": finding.replication_factor,
        "cleanup_policy": finding.settings.get("cleanup.policy"),
        "retention_ms": int(finding.settings["retention.ms"]) if "retention.ms" in finding.settings else None,
        "problems": [{"unsafe": one.unsafe, "what": one.what, "remedy": one.remedy} for one in finding.problems],
    }
