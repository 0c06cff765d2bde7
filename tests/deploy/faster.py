"""The rules of `deploy/prometheus/` on a clock that runs faster, so that an alert of ten minutes fires in seconds.

Every `for:`, every window and every threshold that is a time is divided by one factor; names, shares, counts and words
stay. What is tested so is the expression that is shipped, not a copy of it. A worker's own times do not run faster:
who compares with them sets them likewise, such as `checkpoint_interval_s`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
FILES = ("recording.yml", "alerts.yml")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

WINDOW = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])")
# Thresholds that are seconds: what a gauge of seconds is compared with, and what a rate of records is multiplied by.
SECONDS = re.compile(r"(?<=_seconds > )\d+(?![\w.])|(?<![\w.])\d+(?= \* job:cellstream_records:rate)")
# The first half minute or more would be a time that was not found: shares are below, and so are the counts.
NUMBER = re.compile(r"(?<![\w.:])\d+(?:\.\d+)?(?![\w.])")
LONG_S = 30


def faster(rule: dict[str, Any], factor: float) -> dict[str, Any]:
    """A rule whose times are divided.

    Raises:
        AssertionError: its expression has a number so large that it may be a time, and none that is known.
    """
    shorter = dict(rule)
    if "for" in rule:
        shorter["for"] = _divided(*re.fullmatch(r"(\d+)([smhd])", rule["for"]).groups(), factor)  # type: ignore[union-attr]
    bare = SECONDS.sub("", WINDOW.sub("", re.sub(r'"[^"]*"', "", rule["expr"])))
    unknown = [number for number in NUMBER.findall(bare) if float(number) >= LONG_S]
    assert not unknown, f"{rule}: are {unknown} times? Say so in {Path(__file__).name}"
    expression = WINDOW.sub(lambda found: _divided(*found.groups(), factor), rule["expr"])
    shorter["expr"] = SECONDS.sub(lambda found: f"{float(found[0]) / factor:g}", expression)
    return shorter


def write_faster(directory: Path, factor: float) -> list[Path]:
    """Write both files of rules into a directory, with their times divided, and return their paths."""
    written = []
    for name in FILES:
        content = yaml.safe_load((RULES / name).read_text())
        for group in content["groups"]:
            group["rules"] = [faster(rule, factor) for rule in group["rules"]]
        (directory / name).write_text(yaml.safe_dump(content))
        written.append(directory / name)
    return written


def _divided(count: str, unit: str, factor: float) -> str:
    """As Prometheus spells a duration: without fractions."""
    return f"{round(1000 * int(count) * UNITS_S[unit] / factor)}ms"
