"""What a running worker says on its pages, /ready and /metrics."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.brokers.process import Process


def address_of(worker: Process) -> str | None:
    """`HOST:PORT` of its pages, as it says in its log; None before that."""
    found = re.search(r"address=http://([\d.]+:\d+)/metrics", worker.log.read_text(errors="replace"))
    return found and found[1]


def page(worker: Process, name: str) -> tuple[int, str]:
    """Status and text of one of its pages."""
    try:
        with urllib.request.urlopen(f"http://{address_of(worker)}/{name}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def is_ready(worker: Process) -> bool:
    """Whether it is ready for records."""
    return page(worker, "ready")[0] == 200


def reading(worker: Process, name: str) -> float:
    """A metric, summed over its labels; 0 if it is not there."""
    families = text_string_to_metric_families(page(worker, "metrics")[1])
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
