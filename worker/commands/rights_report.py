"""The least rights of a deployment, as lines for kafka-acls.sh or as JSON."""

from __future__ import annotations

import json

from worker.kafka.rights import Right, rekey_rights, retention_right, worker_rights
from worker.settings import Settings


def rights_report(settings: Settings, from_topic: str | None, principal: str, as_json: bool) -> str:
    """What `cellstream topics --acls` prints.

    Args:
        settings: of the deployment.
        from_topic: what `cellstream rekey` copies; None for the worker's own rights.
        principal: whose rights, `User:NAME`.
        as_json: for machines.
    """
    needed = worker_rights(settings) if from_topic is None else rekey_rights(settings, from_topic)
    advised = [retention_right(settings)] if from_topic is None else []
    if as_json:
        entries = [_entry(right, principal, right not in advised) for right in (*needed, *advised)]
        return json.dumps({"principal": principal, "rights": entries}, indent=2)
    lines = [f"{right.command(principal)}  # {right.purpose}" for right in needed]
    return "\n".join(lines + [f"# advised: {right.command(principal)}  # {right.purpose}" for right in advised])


def _entry(right: Right, principal: str, needed: bool) -> dict[str, object]:
    """One ACL, by the words of Kafka's protocol."""
    return {
        "principal": principal,
        "host": "*",
        "permission": "ALLOW",
        "operation": right.operation,
        "resource_type": right.resource.upper().replace("-", "_"),
        "resource_name": right.name,
        "pattern_type": "PREFIXED" if right.prefixed else "LITERAL",
        "needed": needed,
        "purpose": right.purpose,
    }
